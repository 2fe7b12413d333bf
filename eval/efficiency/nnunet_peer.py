"""The peer of a converted model: nnU-Net's own predictor, on the CPU with its defaults and without mirroring.

Needs nnU-Net (`pip install nnunetv2`), which the product does not. Where a whole scan would take too long, `--patches`
times a number of them, and the way back on empty logits; `total` is then what all patches would take in proportion, and
the report says of how many it was made.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

from eval.efficiency.runner import IMAGE_SUFFIX, find_cases
from gfscreen.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval nnunet-peer`."""
    parser.add_argument("-i", "--input", type=Path, required=True, help="a scan X_0000.nii.gz, or a folder of them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the masks")
    parser.add_argument("--model", type=Path, required=True, help="nnU-Net's folder of the trained model")
    parser.add_argument("--channels", help="how its input channels are made of the CT, as for `gfscreen convert`")
    parser.add_argument("--patches", type=int, help="time only so many patches of each scan; no mask is written")
    parser.add_argument("--cpus", type=int, help="use this many cores (default: all)")
    parser.add_argument("--probabilities", action="store_true", help="also write X.npz: its probabilities, float16")
    parser.add_argument("--report", type=Path, help="write seconds and memory to this JSON file")


def run(args: argparse.Namespace) -> int:
    """Segment by nnU-Net. Exit 0: all masks written; 2: no scan, or no nnU-Net."""
    cases = find_cases(args.input)
    if not cases:
        raise UsageError(f"{args.input}: no scan X{IMAGE_SUFFIX}")
    if args.cpus is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cpus])
    # nnU-Net asks for these when it is imported; prediction uses none of them.
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, str(args.output))
    try:
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    except ImportError as error:
        raise UsageError(f"nnunet-peer: needs nnU-Net ({error}); pip install nnunetv2") from error
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    start = time.monotonic()
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(args.model), None, "checkpoint_final.pth")
    loaded_s = time.monotonic() - start
    args.output.mkdir(parents=True, exist_ok=True)
    reports = [_segment(predictor, path, args, loaded_s) for path in cases]
    if args.report is not None:
        args.report.parent.mkdir(parents=True, exist_ok=True)
        args.report.write_text(json.dumps({"cases": reports}, indent=2) + "\n", encoding="utf-8")
    return 0


def _segment(predictor: Any, path: Path, args: argparse.Namespace, loaded_s: float) -> dict[str, Any]:
    """Write the mask of one scan, or time some of its patches; returns seconds by stage and the process's peak memory.

    Read, made into channels, preprocessed, predicted and exported by nnU-Net's own code, but for the channels.
    """
    import numpy as np
    import torch
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    from gfscreen.networks.models.nnunet_files import parse_channels

    clock = [time.monotonic()]

    def lap() -> float:
        clock.append(time.monotonic())
        return round(clock[-1] - clock[-2], 3)

    seconds = {"load": round(loaded_s, 3)}
    image, properties = SimpleITKIO().read_images([str(path)])
    windows = (None,) if args.channels is None else parse_channels(args.channels)
    data = np.concatenate([_windowed(image, window) for window in windows])
    seconds["read"] = lap()
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    preprocessor = DefaultPreprocessor(verbose=False)
    ready, _, properties = preprocessor.run_case_npy(
        data, None, properties, plans, configuration, predictor.dataset_json
    )
    seconds["preprocess"] = lap()
    tensor = torch.from_numpy(ready)
    padded = [max(n, size) for n, size in zip(ready.shape[1:], configuration.patch_size, strict=True)]
    slices = predictor._internal_get_sliding_window_slicers(tuple(padded))
    name = path.name.removesuffix(IMAGE_SUFFIX)
    report: dict[str, Any] = {"name": name, "patches_total": len(slices), "folds": len(predictor.list_of_parameters)}
    if args.patches is not None:
        count = min(args.patches, len(slices))
        patch = torch.zeros(1, *ready.shape[:1], *configuration.patch_size)
        predictor.network.eval()
        with torch.inference_mode():
            predictor._internal_maybe_mirror_and_predict(patch)
            lap()
            for _ in range(count):
                predictor._internal_maybe_mirror_and_predict(patch)
        seconds["patches"] = lap()
        report |= {"patches_timed": count, "seconds_per_patch": round(seconds["patches"] / count, 3)}
        seconds["predict"] = round(seconds.pop("patches") / count * len(slices) * report["folds"], 3)
        empty = torch.zeros(predictor.label_manager.num_segmentation_heads, *ready.shape[1:], dtype=torch.half)
        lap()
        convert_predicted_logits_to_segmentation_with_correct_shape(
            empty, plans, configuration, predictor.label_manager, properties
        )
        seconds["restore"] = lap()
    else:
        logits = predictor.predict_logits_from_preprocessed_data(tensor).cpu()
        seconds["predict"] = lap()
        restored = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, plans, configuration, predictor.label_manager, properties, return_probabilities=args.probabilities
        )
        mask, probability = restored if args.probabilities else (restored, None)
        seconds["restore"] = lap()
        SimpleITKIO().write_seg(mask, str(args.output / f"{name}.nii.gz"), properties)
        if probability is not None:
            # As the file's axes run, (i, j, k).
            lesion = probability[1:].sum(axis=0).transpose(2, 1, 0).astype(np.float16)
            np.savez_compressed(args.output / f"{name}.npz", lesion=lesion)
        seconds["write"] = lap()
        report["patches_timed"] = len(slices)
    seconds["total"] = round(sum(seconds.values()), 3)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**report, "seconds": seconds, "peak_rss_mb": round(peak_mb, 1)}


def _windowed(image: Any, window: tuple[float, float] | None) -> Any:
    if window is None:
        return image
    low, high = window
    return ((image - low) / (high - low)).clip(0.0, 1.0)
