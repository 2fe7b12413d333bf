"""What the files beside nnU-Net v2's checkpoints say: plans.json and dataset.json -> our plan's `nnunet`. No torch.

Written after nnU-Net 2.2 to 2.8.1. What is not taken over as it is there is refused, by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from gfscreen.errors import WeightsError
from gfscreen.networks.models.nnunet_unet import as_list, unet_config
from gfscreen.nnunet_plan import AXES, InputChannel, NnunetConfig, Normalisation, Resampling

PLANS_FILE, DATASET_FILE = "plans.json", "dataset.json"
DEFAULT_CONFIGURATION = "3d_fullres"
_NORMALISATIONS: dict[str, Normalisation] = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "RescaleTo01Normalization": "rescale",
    "NoNormalization": "none",
}
_READERS: dict[str, Literal["file", "ras"]] = {
    "SimpleITKIO": "file",
    "NibabelIO": "file",
    "NibabelIOWithReorient": "ras",
}
# What names of labels say where nobody says which of several are lesion.
_LESION_WORDS = ("lesion", "tumor", "tumour", "cancer", "metasta")

Json = Mapping[str, Any]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of an nnU-Net folder. Raises WeightsError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path}: not there; name the folder of a trained nnU-Net v2 model, which holds {PLANS_FILE}, "
            f"{DATASET_FILE} and fold_N, such as nnUNetTrainer__nnUNetPlans__3d_fullres{_first_version(path.parent)}"
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not readable as JSON ({error}); copy the file again") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{path}: expected an object, got {type(data).__name__}; copy the file again")
    return data


def _first_version(folder: Path) -> str:
    """A hint where a folder is that of nnU-Net v1."""
    old = (folder / "plans.pkl").exists() or any(folder.glob("fold_*/model_final_checkpoint.model*"))
    return ". This is a folder of nnU-Net v1, which is not supported: train it anew with nnU-Net v2" if old else ""


def parse_channels(text: str) -> tuple[tuple[float, float] | None, ...]:
    """`ct,-150:250` -> (None, (-150.0, 250.0)): the HU window of each input channel. Raises ValueError."""
    windows: list[tuple[float, float] | None] = []
    for part in text.split(","):
        if part.strip().lower() == "ct":
            windows.append(None)
            continue
        low, colon, high = part.partition(":")
        try:
            pair = float(low), float(high)
        except ValueError:
            colon = ""
        if not colon or not pair[0] < pair[1]:
            raise ValueError(f"expected `ct` or LOW:HIGH in HU for each channel, got {part!r} in {text!r}")
        windows.append(pair)
    return tuple(windows)


def nnunet_config(
    plans: Json,
    dataset: Json,
    configuration: str,
    source: str,
    *,
    folds: int = 1,
    windows: Sequence[tuple[float, float] | None] | None = None,
    lesion: Sequence[str] | None = None,
) -> NnunetConfig:
    """Our plan's `nnunet` of nnU-Net's plans and dataset.

    Args:
        plans: plans.json.
        dataset: dataset.json.
        configuration: which of its configurations.
        source: the folder or file, named in errors.
        folds: how many checkpoints there are.
        windows: for each input channel the HU window that it is made of, None for the HU as they are; None in all: one
            channel, as they are.
        lesion: names of the labels or regions that are lesion; None: the only one, or those whose name says so.

    Raises WeightsError for everything that is not supported.

    """
    if "configurations" not in plans:
        old = "plans_per_stage" in plans or "base_num_features" in plans
        kind = (
            "plans of nnU-Net v1, which is not supported: train it anew with nnU-Net v2"
            if old
            else ("no key `configurations`; name the folder of a trained nnU-Net v2 model")
        )
        raise WeightsError(f"{source}: {kind}")
    settings = _resolved(plans["configurations"], configuration, source)
    try:
        _refuse_unknown(plans, settings, configuration, source)
        config = NnunetConfig(
            unet=unet_config(settings, source),
            folds=folds,
            **_labels(dataset, lesion, source),
            spacing_mm=tuple(float(mm) for mm in settings["spacing"]),
            patch_voxels=tuple(int(n) for n in settings["patch_size"]),
            transpose=tuple(int(n) for n in plans["transpose_forward"]),
            orientation=_READERS[str(plans.get("image_reader_writer", "SimpleITKIO"))],
            channels=_channels(plans, dataset, settings, windows, source),
            data_resampling=_resampling(settings, "data", 3, source),
            logit_resampling=_resampling(settings, "probabilities", 1, source),
        )
    except KeyError as error:
        raise WeightsError(f"{source}: key {error} is missing; these are not plans of nnU-Net 2.2 to 2.8") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{source}: {error}; only plans as nnU-Net 2.2 to 2.8 writes them can be converted") from (
            error
        )
    return config


def with_mirroring(config: NnunetConfig, axes: Sequence[int] | None, source: str) -> NnunetConfig:
    """The same, mirrored along the axes that the training allows. Raises WeightsError if it allows none."""
    if not axes:
        raise WeightsError(f"{source}: trained without mirroring; leave out --mirror")
    return replace(config, mirror_axes=tuple(int(axis) for axis in axes))


def _resolved(configurations: Json, name: str, source: str) -> dict[str, Any]:
    """One configuration with what it inherits."""
    if name not in configurations:
        raise WeightsError(
            f"{source}: has no configuration {name!r}; name one of {', '.join(configurations)} with --configuration"
        )
    seen: list[str] = []
    chain: list[Json] = []
    while True:
        if name in seen or name not in configurations:
            raise WeightsError(f"{source}: configuration {seen[0]!r} inherits from {name!r}, which cannot be resolved")
        seen.append(name)
        chain.append(configurations[name])
        if "inherits_from" not in configurations[name]:
            break
        name = configurations[name]["inherits_from"]
    resolved: dict[str, Any] = {}
    for settings in reversed(chain):
        resolved |= settings
    return resolved


def _refuse_unknown(plans: Json, settings: Json, name: str, source: str) -> None:
    """Raise WeightsError for what would silently give other masks than nnU-Net's."""
    if settings.get("previous_stage"):
        raise WeightsError(
            f"{source}: configuration {name!r} is the second stage of a cascade, which is not supported; convert "
            "3d_fullres or 3d_lowres"
        )
    if len(settings["patch_size"]) != AXES:
        raise WeightsError(f"{source}: configuration {name!r} is 2d, which is not supported; convert a 3d one")
    for what, value, known in (
        ("preprocessor", settings.get("preprocessor_name", "DefaultPreprocessor"), ("DefaultPreprocessor",)),
        ("image reader", plans.get("image_reader_writer", "SimpleITKIO"), tuple(_READERS)),
        ("label manager", plans.get("label_manager", "LabelManager"), ("LabelManager",)),
        *(("normalisation", scheme, tuple(_NORMALISATIONS)) for scheme in settings["normalization_schemes"]),
    ):
        if value not in known:
            raise WeightsError(f"{source}: {what} {value!r} is not supported; supported are {', '.join(known)}")
    masked = settings.get("use_mask_for_norm") or []
    for scheme, mask in zip(settings["normalization_schemes"], masked, strict=False):
        if mask and scheme == "ZScoreNormalization":
            raise WeightsError(
                f"{source}: ZScoreNormalization inside a mask (use_mask_for_norm) is not supported; for CT plan without"
            )


def _resampling(settings: Json, what: str, order: int, source: str) -> Resampling:
    function = settings.get(f"resampling_fn_{what}", "resample_data_or_seg_to_shape")
    options = dict(settings.get(f"resampling_fn_{what}_kwargs") or {"order": order})
    unknown = set(options) - {"is_seg", "order", "order_z", "force_separate_z"}
    if function != "resample_data_or_seg_to_shape" or unknown or options.get("is_seg"):
        raise WeightsError(
            f"{source}: resampling {function!r} with {options} is not supported; supported is "
            "resample_data_or_seg_to_shape with order, order_z and force_separate_z"
        )
    apart = options.get("force_separate_z")
    return Resampling(int(options.get("order", order)), int(options.get("order_z", 0)), apart)


def _labels(dataset: Json, wanted: Sequence[str] | None, source: str) -> dict[str, Any]:
    """`outputs`, `lesion` and `regions` of dataset.json's labels."""
    labels = {str(name): value for name, value in dataset["labels"].items() if name != "ignore"}
    regions = any(isinstance(value, (list, tuple)) and len(value) > 1 for value in labels.values())
    if regions:
        if "regions_class_order" not in dataset:
            raise WeightsError(f"{source}: {DATASET_FILE} has regions but no regions_class_order; copy the file again")
        outputs = [name for name, value in labels.items() if as_list(value, 1) != [0] and set(as_list(value, 1)) != {0}]
        found = outputs
    else:
        numbered = sorted((int(as_list(value, 1)[0]), name) for name, value in labels.items())
        outputs = [name for _, name in numbered]
        if not numbered or numbered[0][0] != 0 or len(numbered) < 2:
            raise WeightsError(f"{source}: {DATASET_FILE} must have label 0, background, and another, got {labels}")
        found = outputs[1:]
    if wanted is None:
        named = [name for name in found if any(word in name.lower() for word in _LESION_WORDS)]
        wanted = found if len(found) == 1 else named
        if not wanted:
            raise WeightsError(
                f"{source}: which of the labels {', '.join(found)} are lesion? Say so with --lesion NAME[,NAME]"
            )
    if unknown := [name for name in wanted if name not in found]:
        raise WeightsError(f"{source}: has no label {unknown[0]!r}; --lesion takes {', '.join(found)}")
    return {
        "outputs": tuple(outputs),
        "lesion": tuple(outputs.index(name) for name in wanted),
        "regions": regions,
    }


def _channels(
    plans: Json,
    dataset: Json,
    settings: Json,
    windows: Sequence[tuple[float, float] | None] | None,
    source: str,
) -> tuple[InputChannel, ...]:
    """The input channels: nnU-Net's normalisation of each, after the window that it is made of."""
    names: Json = dataset["channel_names"] if "channel_names" in dataset else dataset["modality"]
    if windows is None and len(names) > 1:
        raise WeightsError(
            f"{source}: the network takes {len(names)} channels ({', '.join(map(str, names.values()))}); say how each "
            "is made of the CT with --channels, such as ct,-150:250,-1000:400"
        )
    windows = (None,) * len(names) if windows is None else windows
    if len(windows) != len(names):
        raise WeightsError(
            f"{source}: the network takes {len(names)} channel(s), --channels names {len(windows)}; name as many"
        )
    schemes = settings["normalization_schemes"]
    if len(schemes) != len(names):
        raise WeightsError(f"{source}: {len(schemes)} normalization_schemes for {len(names)} channels")
    key = "foreground_intensity_properties_per_channel"
    properties = plans.get(key) or plans.get("foreground_intensity_properties_by_modality") or {}
    channels = []
    for number, (window, scheme) in enumerate(zip(windows, schemes, strict=True)):
        normalisation = _NORMALISATIONS[scheme]
        if normalisation != "ct":
            channels.append(InputChannel(normalisation, window))
            continue
        own = properties[str(number)]
        clip = float(own["percentile_00_5"]), float(own["percentile_99_5"])
        channels.append(InputChannel("ct", window, clip, float(own["mean"]), float(own["std"])))
    return tuple(channels)
