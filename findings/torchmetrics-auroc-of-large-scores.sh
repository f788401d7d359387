#!/usr/bin/env bash
# Guess: The area under the ROC curve depends on the order of the scores only, so any scores will
#   do.
# So: Scores above about 17 saturate to exactly 1 and tie. Average precision and the multiclass
#   form, by softmax, do the same. scikit-learn ranks the scores as they are.
# Hurt: Anomaly scores, energies, log-likelihood ratios and confident logits: the better separated
#   the model, the worse its AUROC.
# Seen with: numpy 2.4.6, scikit-learn 1.9.1, torch 2.14.1, torchmetrics 1.9.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 scikit-learn==1.9.1 torch==2.14.1 torchmetrics==1.9.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

scores, labels = torch.tensor([20.0, 30.0, 40.0, 50.0]), torch.tensor([0, 0, 1, 1])
area, precision = float(BinaryAUROC()(scores, labels)), float(BinaryAveragePrecision()(scores, labels))
smaller = float(BinaryAUROC()(scores / 100, labels))
print("guess:    1.0, the order is perfect")
print("seen:     AUROC", area, "average precision", precision, "; scores divided by 100:", smaller, "; scikit-learn:", roc_auc_score(labels, scores))
assert area == precision == 0.5
assert smaller == roc_auc_score(labels, scores) == 1.0
PY
