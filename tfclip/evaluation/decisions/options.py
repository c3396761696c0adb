"""Options of a multi-label measurement, checked before anything is computed."""

from dataclasses import dataclass

from tfclip.evaluation.decisions.calibration import CALIBRATIONS
from tfclip.evaluation.decisions.fusion import check_fusion
from tfclip.evaluation.decisions.thresholds import parse_objective
from tfclip.evaluation.embedding.class_words import ClassWords
from tfclip.evaluation.embedding.prompts import templates_by_name
from tfclip.inputs.tiles import tile_groups
from tfclip.naming import unknown


@dataclass(frozen=True)
class MultilabelOptions:
    """Options of a multi-label measurement.

    Attributes:
        templates: of the prompts, a name or a file.
        words: synonyms and negatives of classes.
        tiles: layout of the views.
        fusion: of the scores of the views, one of `fusion.FUSIONS`.
        objective: of the thresholds, see `thresholds.parse_objective`.
        shrink: shrink thresholds per class towards a shared one, cross-validated.
        probabilities: calibration of `predict` and exports, "platt" or "isotonic".
        false_positives: the bound of the false-positive rate of thresholds from negatives alone;
            None fits thresholds on positives and negatives.
        all_templates: also measure the mean average precision with every named set of templates.
        seed: of the folds and the bootstrap resamples.
    """

    templates: str = "single"
    words: ClassWords = ClassWords()
    tiles: str = "1"
    fusion: str = "max"
    objective: str = "f1"
    shrink: bool = True
    probabilities: str = "platt"
    false_positives: float | None = None
    all_templates: bool = False
    seed: int = 0

    def __post_init__(self):
        templates_by_name(self.templates)
        tile_groups(self.tiles)
        parse_objective(self.objective)
        check_fusion(self.fusion)
        if self.probabilities not in CALIBRATIONS:
            raise unknown("probabilities", self.probabilities, CALIBRATIONS)
        rate = self.false_positives
        if rate is not None and not 0 < rate < 1:
            raise ValueError(f"received a false-positive rate of {rate}; allowed: above 0, below 1")
        if self.seed < 0:
            raise ValueError(f"received seed {self.seed}; allowed: 0 or more")
