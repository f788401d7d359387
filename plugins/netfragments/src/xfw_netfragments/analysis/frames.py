"""The analyzer ``frames``: an animation of images, features, activity and normalised support (spec 6.4).

Axes: N image, T time step, F feature, H row, W column, and 3 colours.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import xfw
from numpy.typing import NDArray
from xfw.analysis.output import Output

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont
    from xfw.store.results import Results

__all__ = ["ANALYZER", "Options", "Scene", "picture", "run"]

WIDTH, HEIGHT, PANEL = 1324, 490, 256
GAP, TOP = 60, 150
SMALL = 20
TITLES = ("Input image", "S1 features", "S2 activity", "S2 probability")
MOST = 4
"""Points that are shown where none is named."""

Bytes = NDArray[np.uint8]


@attrs.frozen
class Options:
    """Which points, and in which form."""

    points: tuple[int, ...] | None = xfw.key(None, ge=0, help="numbers of points; by default the first four")
    trial: int = xfw.key(0, ge=0, help="position of the trial in the run")
    fps: float = xfw.key(10.0, gt=0, le=50, help="frames in a second", unit="1/s")
    form: str = xfw.key(
        "png", choices=("png", "gif", "mp4"), help="animated PNG or GIF, or MP4 where ffmpeg is installed"
    )


@attrs.frozen(eq=False)
class Scene:
    """What is shown of one point: images (N, H, W), features (N, F, H, W), activity and v̂ (N, T, F, H, W)."""

    images: NDArray[np.bool_]
    features: NDArray[np.bool_]
    z: NDArray[np.bool_]
    strength: NDArray[np.float32]


def available(results: Results) -> str:
    """Say why there is nothing to show."""
    if any(name.startswith("activity/") for name in results.arrays()):
        return ""
    return "the run stored no activity: evaluate with -s evaluate.store_activity=true"


def run(results: Results | None, options: Options, output: Output) -> None:
    """Write one animation for each point."""
    assert results is not None
    if options.form == "mp4" and shutil.which("ffmpeg") is None:
        raise xfw.UserError("frames: form=mp4 needs ffmpeg, which was not found", hint="use -s form=gif or -s form=png")
    if options.trial >= len(results.trial):
        raise xfw.UserError(f"frames: trial={options.trial}, but the run has {len(results.trial)} trials", exit_code=2)
    known = sorted({int(name.split("/")[1]) for name in results.arrays() if name.startswith("activity/")})
    chosen = known[:MOST] if options.points is None else list(options.points)
    if unknown := [point for point in chosen if point not in known]:
        raise xfw.UserError(
            f"frames: point {unknown[0]} has no activity, the run has {known[0]} … {known[-1]}", exit_code=2
        )
    for point in chosen:
        _write(results, point, options, output)
    if len(chosen) < len(known):
        output.say(f"frames: {len(chosen)} of {len(known)} points; name others with -s points=[{known[-1]}]")


def _write(results: Results, point: int, options: Options, output: Output) -> None:
    parts = {
        name: results.array(f"activity/{point}/{name}", options.trial)
        for name in ("images", "features", "z", "strength")
    }
    title = _title(results.row("evaluation", options.trial, point))
    pictures = list(frames(Scene(**parts), title))
    output.file(f"frames_{point}.{options.form}", encode(pictures, options.form, options.fps))
    output.say(f"frames_{point}.{options.form}: {title}, {len(pictures)} frames")


def _title(row: dict[str, Any]) -> str:
    theta = "Bernoulli" if row["bernoulli"] else f"θ = {row['theta']:g}"
    gamma = f"γ = {row['gamma_start']:g} + {row['gamma_step']:g}t"
    return f"noise {row['noise']:g}, line interrupt {int(row['line_interrupt'])}, {theta}, {gamma}"


def frames(scene: Scene, title: str) -> Iterator[Image]:
    """Yield the frames: every image in turn, time step by time step."""
    for image in range(len(scene.z)):
        for step in range(scene.z.shape[1]):
            yield picture(scene, image, step, f"{title}   image {image + 1}, step {step + 1}")


def picture(scene: Scene, image: int, step: int, title: str) -> Image:
    """Return one frame: a title line, and four panels."""
    from PIL import Image as Images
    from PIL import ImageDraw

    canvas = Images.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((WIDTH // 2, 40), title, fill="black", font=_font(SMALL + 4), anchor="mm")
    z_FHW, seen_FHW = scene.z[image, step], scene.features[image]
    panels = (
        np.repeat(scene.images[image].astype(np.uint8)[..., None] * 255, 3, 2),
        _coloured(seen_FHW),
        _coloured(z_FHW),
        _heat(scene.strength[image, step], seen_FHW | z_FHW),
    )
    for place, (name, panel) in enumerate(zip(TITLES, panels, strict=True)):
        left = GAP + place * (PANEL + GAP)
        pen.text((left + PANEL // 2, TOP - 24), name, fill="black", font=_font(SMALL), anchor="mm")
        enlarged = Images.fromarray(panel).resize((PANEL, PANEL), Images.Resampling.NEAREST)
        canvas.paste(enlarged, (left, TOP))
    return canvas


def _font(size: int) -> FreeTypeFont:
    """Return the font that matplotlib brings along: it has the Greek letters."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _coloured(active_FHW: NDArray[np.bool_]) -> Bytes:
    """Return active features in their colours; those of features at one place are added."""
    from matplotlib import colormaps

    colours_F3 = np.array([colormaps["gist_rainbow"](place / 256)[:3] for place in (0, 64, 128, 192)])
    return np.asarray(np.clip(np.einsum("fhw,fc->hwc", active_FHW, colours_F3), 0, 1) * 255, np.uint8)


def _heat(strength_FHW: NDArray[np.float32], shown_FHW: NDArray[np.bool_]) -> Bytes:
    from matplotlib import colormaps

    values = np.clip(np.where(shown_FHW, strength_FHW, 0).max(0), 0, 1)
    return np.asarray(colormaps["hot"]((values * 255).astype(np.uint8))[..., :3] * 255, np.uint8)


def encode(pictures: list[Image], form: str, fps: float) -> bytes:
    """Return an animation as the bytes of a file."""
    if form == "mp4":
        return _video(pictures, fps)
    file = io.BytesIO()
    rest = pictures[1:]
    pictures[0].save(file, form.upper(), save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
    return file.getvalue()


def _video(pictures: list[Image], fps: float) -> bytes:
    raw = b"".join(picture.tobytes() for picture in pictures)
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", f"{fps:g}", "-i", "-"]
    target = ["-pix_fmt", "yuv420p", "-movflags", "frag_keyframe+empty_moov", "-f", "mp4", "-"]
    done = subprocess.run(
        ["ffmpeg", "-loglevel", "error", *source, *target], input=raw, capture_output=True, check=False
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise xfw.UserError(f"frames: ffmpeg failed: {lines[-1] if lines else done.returncode}", hint="use -s form=gif")
    return done.stdout


ANALYZER = xfw.Analyzer(
    "frames", "animations of stored activity, step by step", run, options=Options, available=available
)
