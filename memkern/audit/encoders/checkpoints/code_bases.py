"""Code bases of self-supervised learning whose checkpoints load, and what to type for each: the table of docs/audit.md.

The table is what the tests make files from. Loading itself knows no code bases: it looks for an encoder's names
anywhere in a checkpoint (`networks`), in the spellings of `spellings`. A new code base needs a row here, and a spelling
if it has names of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from memkern._util.text import markdown_table

RESNET, VIT = "torchvision:resnet50", "timm:vit_base_patch16_224"


@dataclass(frozen=True)
class CodeBase:
    """Code base, and where its checkpoints hold the backbone.

    Attributes:
        name: Name of the code base, or of several with one layout.
        encoder: ENCODER to type, of one of the sizes.
        place: Where the backbone is: keys joined by "/", then what stands before its names.
        others: Where other networks of the same kind are.
        head: Names that stand beside the backbone's, under its prefix.
        other: `?network=` for another network than the one that is taken; "" if there is none.
        spelling: Part of the name of the spelling that the file has; "" for the encoder's own.
    """

    name: str
    encoder: str
    place: str
    others: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    other: str = ""
    spelling: str = ""


CODE_BASES = (
    CodeBase("MAE", VIT, "model/", head=("decoder_embed.weight", "decoder_blocks.0.norm1.weight", "mask_token")),
    CodeBase("DINO, iBOT", "timm:vit_small_patch16_224", "teacher/backbone.", ("student/module.backbone.",),
             other="student"),
    CodeBase("DINO, iBOT (ResNet-50)", RESNET, "teacher/backbone.", ("student/module.backbone.",), other="student"),
    CodeBase("DINOv2", "timm:vit_small_patch14_dinov2", "/", head=("mask_token",)),
    CodeBase("DINOv2 with registers", "timm:vit_small_patch14_reg4_dinov2", "/", head=("mask_token",),
             spelling="with register tokens"),
    CodeBase("DINOv2 (training)", "timm:vit_small_patch14_dinov2", "model/teacher.backbone.",
             ("model/student.backbone.",), other="student"),
    CodeBase("MoCo v1, v2", RESNET, "state_dict/module.encoder_q.", ("state_dict/module.encoder_k.",),
             ("fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"), "k"),
    CodeBase("MoCo v3 (ResNet-50)", RESNET, "state_dict/module.base_encoder.", ("state_dict/module.momentum_encoder.",),
             ("fc.0.weight", "fc.1.running_mean"), "momentum"),
    CodeBase("MoCo v3 (ViT)", "timm:vit_small_patch16_224", "state_dict/module.base_encoder.",
             ("state_dict/module.momentum_encoder.",), ("head.0.weight", "head.1.running_mean"), "momentum"),
    CodeBase("SimCLR (sthalles)", RESNET, "state_dict/backbone.", head=("fc.0.weight", "fc.2.weight")),
    CodeBase("SimCLR (spijkervet)", RESNET, "/encoder."),
    CodeBase("SimSiam", RESNET, "state_dict/module.encoder.", head=("fc.0.weight", "fc.1.running_mean", "fc.6.bias")),
    CodeBase("BYOL (lucidrains)", RESNET, "/online_encoder.net.", ("/target_encoder.net.",), other="target"),
    CodeBase("Barlow Twins, VICReg (backbone)", RESNET, "/"),
    CodeBase("Barlow Twins, VICReg (training)", RESNET, "model/module.backbone."),
    CodeBase("SwAV, DeepCluster-v2", RESNET, "/module.", head=("projection_head.0.weight", "prototypes.weight")),
    CodeBase("SwAV, DeepCluster-v2 (training)", RESNET, "state_dict/module.",
             head=("projection_head.0.weight", "prototypes.weight")),
    CodeBase("DeiT", "timm:deit_small_patch16_224", "model/", ("model_ema/",), ("head.weight", "head.bias"), "ema"),
    CodeBase("timm's trainer", "timm:resnet50", "state_dict/", ("state_dict_ema/",), ("fc.weight", "fc.bias"), "ema"),
    CodeBase("lightly", "lightly:resnet50", "state_dict/backbone.", ("state_dict/backbone_momentum.",),
             ("projection_head.layers.0.weight",), "momentum"),
    CodeBase("lightly, into torchvision's names", RESNET, "state_dict/backbone.", spelling="children (lightly"),
    CodeBase("lightly-train (exported)", RESNET, "/"),
    CodeBase("lightly-train (checkpoint)", "timm:vit_small_patch16_224",
             "state_dict/teacher_embedding_model_wrapper._model.",
             ("state_dict/student_embedding_model_wrapper._model.",), other="student"),
    CodeBase("solo-learn", RESNET, "state_dict/backbone.", ("state_dict/momentum_backbone.",),
             ("../projector.0.weight", "../classifier.weight"), "momentum"),
    CodeBase("mmselfsup, mmpretrain (ResNet)", RESNET, "state_dict/backbone.", ("state_dict/target_net.module.0.",),
             ("../neck.fc0.weight", "../head.predictor.fc0.weight"), "target"),
    CodeBase("mmselfsup, mmpretrain (ViT)", VIT, "state_dict/backbone.", head=("../neck.decoder_embed.weight",),
             spelling="mmpretrain"),
    CodeBase("VISSL", RESNET, "classy_state_dict/base_model/model/trunk/_feature_blocks."),
    CodeBase("open_clip, CLIP", "timm:vit_base_patch16_clip_224", "state_dict/module.visual.",
             head=("../transformer.resblocks.0.ln_1.weight", "proj"), spelling="CLIP"),
    CodeBase("Lightning", RESNET, "state_dict/model."),
    CodeBase("PyTorch (DDP, torch.compile)", RESNET, "/_orig_mod.module."),
)  # fmt: skip
"""The code bases, as the tests make their files."""


def code_base_table() -> str:
    """Returns the code bases as a markdown table, for docs/audit.md."""
    rows = []
    for each in CODE_BASES:
        place = each.place.strip("/").replace("/", " → ") or "the names alone"
        taken = f"`F?network={each.other}`" if each.other else ""
        rows.append((each.name, f"`{place}`" if each.place.strip("/") else place, f"`{each.encoder}`", taken))
    rows.append(
        ("transformers", "a folder of `save_pretrained`, whole or in shards", "`hf:FOLDER --weights FOLDER`", "")
    )
    return markdown_table(
        ("code base", "where the backbone is in F", "ENCODER, of one size", "the other network"), rows
    )
