"""Running blocks as processes: the block itself, how it is stopped and watched, who starts it and supervises."""
