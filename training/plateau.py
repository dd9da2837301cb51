"""Whether training has learnt anything at all."""

import logging
from collections.abc import Sequence

import numpy as np

log = logging.getLogger(__name__)

PLATEAU_SHARE = 0.01  # of the chance loss: closer than this is no learning
PLATEAU_HELP = (
    "the loss stands at chance. Usual causes: learning rate, too few clips or pictures that don't show what "
    "sounds, pairs shuffled by mistake, BatchNorm in the wrong mode, vectors normalised over the wrong axis"
)


def is_plateau(relative_losses: Sequence[float], progress: float) -> bool:
    """Whether, halfway, the last tenth of the losses is the chance loss; a warning says what to look at."""
    recent = relative_losses[-max(1, len(relative_losses) // 10) :]
    is_flat = progress >= 0.5 and abs(np.mean(recent) - 1.0) < PLATEAU_SHARE
    if is_flat:
        log.warning("after %.0f %% of the training %s", 100 * progress, PLATEAU_HELP)
    return bool(is_flat)
