"""Families of encoders: what a score of memorization means over trainings, and how sure it is.

Both papers define memorization over trainings with and without an image. Given the alignments of K encoders and who saw
what, these functions say which images are memorized, at which false-discovery rate, and never without a control. They
need scipy (`memkern[audit]`).
"""

from memkern.families.attack import (
    Attack,
    Attacks,
    OneRun,
    alignment_attack,
    attack,
    epsilon_lower_bound,
    lira,
    one_run_epsilon,
)
from memkern.families.design import Design, design, membership_of_groups
from memkern.families.exchange import Exchange, exchange_of_group
from memkern.families.findings import Finding, findings, grows_without_accuracy
from memkern.families.images import ImageScores, image_scores
from memkern.families.layers import LayerScores, layer_scores
from memkern.families.p_values import (
    GroupTest,
    benjamini_hochberg,
    conformal_p,
    group_test,
    membership_permutation_p,
)
from memkern.families.refused import duplicate_encoders, refuse_duplicates
from memkern.families.roc import Roc, auc_interval, clopper_pearson, roc
from memkern.families.units import (
    MemberPeaks,
    UnitMeans,
    balanced_images,
    member_peaks,
    peak_counts,
    peak_counts_of_states,
    peaks_of_images,
    signed_units,
    unit_means,
)
from memkern.families.verdict import Verdict, controls_to_name_one, images_above_all_controls, verdict

__all__ = [
    "Attack",
    "Attacks",
    "Design",
    "Exchange",
    "Finding",
    "GroupTest",
    "ImageScores",
    "LayerScores",
    "MemberPeaks",
    "OneRun",
    "Roc",
    "UnitMeans",
    "Verdict",
    "alignment_attack",
    "attack",
    "auc_interval",
    "balanced_images",
    "benjamini_hochberg",
    "clopper_pearson",
    "conformal_p",
    "controls_to_name_one",
    "design",
    "duplicate_encoders",
    "epsilon_lower_bound",
    "exchange_of_group",
    "findings",
    "group_test",
    "grows_without_accuracy",
    "image_scores",
    "images_above_all_controls",
    "layer_scores",
    "lira",
    "member_peaks",
    "membership_of_groups",
    "membership_permutation_p",
    "one_run_epsilon",
    "peak_counts",
    "peak_counts_of_states",
    "peaks_of_images",
    "refuse_duplicates",
    "roc",
    "signed_units",
    "unit_means",
    "verdict",
]
