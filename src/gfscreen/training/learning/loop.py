"""The training loop. One step: draw sub-volumes, let the Focus read them, reward the Glance, update both.

Departures from the paper, and why:
1. A group is N sub-volumes of any scans with a chosen share of lesions; the published code draws its group from the
   sliding windows of four scans, of which most hold nothing, so that many groups have no variance and teach nothing.
2. The reward does not depend on the action, as in the published code: it is what reading the sub-volume would pay.
   Hence every sub-volume of the group is read by the Focus and no action is sampled (PPO samples whether what was read
   counts as read). With a frozen Focus (stage `glance`) the reward is a constant of the sub-volume, so it is found once
   for a pool of them and reused.
3. The reference policy is refreshed every `reference_every` steps (the paper: every epoch; there are none here). It is
   run with the batch statistics of the same group, so that right after a refresh every ratio is exactly 1. It is the
   old policy of PPO too: one update per group, and a refresh every `reference_every` groups in place of several updates
   on one group between refreshes.
4. Stages may be trained apart: the Focus on small sub-volumes first, then the Glance against the frozen Focus.
5. Averaged Focus weights, gradient clipping, one Dice over the batch, Dice of the lesion class alone, a heavier
   cross-entropy, heavier small lesions, a starting bias towards background, inserted lesions: optional, off in the
   `paper` preset (but for clipping at 12).

Every draw is seeded by (seed, rank, step): a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gfscreen.errors import OutputError
from gfscreen.networks.models.weights import save_weights
from gfscreen.training import objectives
from gfscreen.training.data.cache import load_scans
from gfscreen.training.data.lists import DataList
from gfscreen.training.data.prefetch import Draws
from gfscreen.training.data.sampling import PatchSampler, Sample, Source, load_lesions
from gfscreen.training.learning.distributed import World
from gfscreen.training.learning.glance_step import Policy, Values, judge
from gfscreen.training.learning.imitation import Imitation, imitation_loss
from gfscreen.training.learning.initialisation import build_run, mixed_precision
from gfscreen.training.learning.judged_scans import judged_scans
from gfscreen.training.learning.lesion_weights import small_lesion_weight
from gfscreen.training.learning.reward_pool import Pool
from gfscreen.training.learning.run_log import Journal, Means, PoliteThreads, StopRequest, memory
from gfscreen.training.learning.state import CHECKPOINT_FILE, Run, read_checkpoint, restore, save_checkpoint
from gfscreen.training.learning.validation import (
    background_samples,
    dev_samples,
    glance_probabilities,
    score_focus,
    summarise,
    summarise_gate,
)
from gfscreen.training.settings import DICE_GATES, Mix, TrainingSettings

log = logging.getLogger(__name__)

WEIGHTS_FOLDER = "weights"
EVALUATION_SEED = 20_240


@dataclass(frozen=True)
class Job:
    """Where a run reads and writes. minutes: of training over all sessions, None for no limit."""

    data: DataList
    cache: Path
    folder: Path
    resume: bool = False
    minutes: float | None = None


def train(settings: TrainingSettings, job: Job, world: World) -> Path:
    """Train to the end of the steps or of the time, and write a weights folder; returns it.

    Raises InputError, WeightsError or UsageError before the first step if data, checkpoint and settings do not fit.
    """
    torch.manual_seed(settings.seed)
    run = build_run(settings, world)
    if job.resume:
        source = job.folder / CHECKPOINT_FILE
        restore(run, read_checkpoint(source), settings, str(source))
    sampler, dev_sampler = load_samplers(settings, job)
    step_of = stage_step(settings, run, sampler, world)
    threads, means, end = PoliteThreads(settings.threads), Means(), time.monotonic
    job.folder.mkdir(parents=True, exist_ok=True)

    last = end()
    saved = evaluated = last
    report = Journal(job.folder, active=world.first, total_steps=settings.steps, first_step=run.step)
    with report as journal, StopRequest() as stop:
        while run.step < settings.steps:
            share = world.broadcast(progress(settings, run, job.minutes))
            if share >= 1.0 or world.agree(stop.asked):
                break
            rates = set_rates(settings, run, share)
            values = step_of(run.step)
            run.step += 1
            now = end()
            means.add({**values, "seconds_per_step": now - last})
            run.seconds, last = run.seconds + now - last, now
            journal.tick()
            threads.adapt()
            if run.step % settings.log_every == 0:
                journal.report("train", run.step, {**means.take(), **rates, **memory(), "threads": threads.current})
            if world.first and dev_sampler and now - evaluated > 60 * settings.evaluate_minutes:
                evaluate(settings, run, dev_sampler, journal)
                evaluated = end()
            if world.first and now - saved > 60 * settings.checkpoint_minutes:
                keep(job, run, settings)
                saved = end()
            # Evaluation counts for the clock but not for the time per step.
            run.seconds, last = run.seconds + end() - last, end()
        if world.first:
            if dev_sampler and not stop.asked:
                evaluate(settings, run, dev_sampler, journal)
            save_checkpoint(job.folder, run, settings)
            write_weights(job.folder / WEIGHTS_FOLDER, settings, run)
    return job.folder / WEIGHTS_FOLDER


def load_samplers(settings: TrainingSettings, job: Job) -> tuple[PatchSampler, PatchSampler | None]:
    """Samplers of the training side and, if the list has a validation side, of the dev side."""
    plan, data = settings.plan, job.data
    scans = load_scans(data.training, data, plan, job.cache)
    if settings.judged_by is not None:
        scans = judged_scans(scans, plan, Path(settings.judged_by), job.cache, marked=settings.mix.marked > 0)
    training = Source(tuple(scans), *load_lesions(data, dev=False))
    sampler = PatchSampler(training, plan, settings.mix, strong=settings.augment == "strong")
    if not data.validation or settings.evaluation_crops == 0:
        return sampler, None
    dev = Source(tuple(load_scans(data.validation, data, plan, job.cache)), *load_lesions(data, dev=True))
    return sampler, PatchSampler(dev, plan, Mix(real=1, background=1, nodules=1, masses=1, soft=1, nodules_per_crop=1))


def progress(settings: TrainingSettings, run: Run, minutes: float | None) -> float:
    """How far the run is, 0 to 1: by steps, or by time if there is a limit and it runs out first."""
    by_steps = run.step / settings.steps
    by_time = 0.0 if minutes is None else run.seconds / (60.0 * minutes)
    return max(by_steps, by_time)


def set_rates(settings: TrainingSettings, run: Run, share: float) -> Values:
    """Set and return the learning rates: linear warm-up, then a cosine over the run's steps or, if asked, its time."""
    position = share if settings.schedule == "clock" else run.step / settings.steps
    warm = min(1.0, (run.step + 1) / max(settings.warmup_steps, 1))
    cosine = settings.final_rate + (1 - settings.final_rate) * 0.5 * (1 + math.cos(math.pi * min(position, 1.0)))
    top = {"focus": settings.focus_learning_rate, "glance": settings.glance_learning_rate}
    for group in run.optimizer.param_groups:
        group["lr"] = top[group["name"]] * warm * cosine
    return {f"{group['name']}_rate": group["lr"] for group in run.optimizer.param_groups}


def draw_rng(settings: TrainingSettings, world: World, step: int) -> np.random.Generator:
    """The generator of one step on one process."""
    return np.random.default_rng([settings.seed, world.rank, step])


def batch_of(samples: list[Sample], settings: TrainingSettings, device: torch.device) -> tuple[Tensor, ...]:
    """What Focus sees, float32 (N, C, X, Y, Z), labels uint8 (N, X, Y, Z), bool (N,): those with a Dice, and weights.

    The weights of voxels are float32 (N, X, Y, Z), or (N, 1, 1, 1) of ones where every voxel counts once.
    """
    images = torch.from_numpy(np.stack([s.channels for s in samples]))
    labels = torch.from_numpy(np.stack([s.label for s in samples]))
    with_dice = torch.tensor([s.kind in settings.dice_kinds for s in samples])
    once = np.ones((1, 1, 1), dtype=np.float16)
    weights = torch.from_numpy(np.stack([once if s.weight is None else s.weight for s in samples]))
    return images.to(device), labels.to(device), with_dice.to(device), weights.to(device).float()


def stage_step(settings: TrainingSettings, run: Run, sampler: PatchSampler, world: World) -> Callable[[int], Values]:
    """The function that makes one step of the run's stage and returns what it measured."""
    focus = world.wrap(run.focus) if settings.stage != "glance" else run.focus
    imitation = Imitation(settings, run.focus, world) if settings.learns_from == "init" else None
    glance: nn.Module = run.glance
    if settings.stage != "focus" and settings.gate != "none":
        glance = world.wrap(run.glance)
    policy = Policy(glance, world.wrap(run.value_head) if run.value_head is not None else None, world.rank)
    half = mixed_precision(settings, world)

    def autocast() -> torch.autocast:
        return torch.autocast(world.device.type, dtype=half, enabled=half is not None)

    def read(
        images: Tensor, labels: Tensor, with_dice: Tensor, voxel_weight: Tensor, passes: int
    ) -> tuple[Tensor, float]:
        """One Focus pass with its share of the gradient; logits without gradient, and the loss."""
        with autocast():
            logits, aim = (focus(images), None) if imitation is None else imitation(images)
        if aim is not None:
            loss = imitation_loss(logits, aim)
        else:
            loss = objectives.dice_ce(
                logits,
                labels,
                batch=settings.batch_dice,
                include_background=settings.dice_background,
                ce_weight=settings.ce_weight,
                with_dice=None if settings.batch_dice else with_dice,
                voxel_weight=voxel_weight,
            )
        torch.autograd.backward(run.scaler.scale(loss / passes))
        return logits.detach(), float(loss.detach())

    def update(values: Values) -> Values:
        run.scaler.unscale_(run.optimizer)
        parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(parameters, settings.clip_norm))
        if math.isfinite(norm):
            run.scaler.step(run.optimizer)
        run.scaler.update()
        run.optimizer.zero_grad(set_to_none=True)
        if settings.stage != "glance":
            run.focus_average.update(run.focus)
        return {**values, "gradient_norm": norm, "skipped": float(not math.isfinite(norm))}

    per_step = settings.batch * settings.accumulation if settings.stage == "focus" else settings.group

    def draw(step: int) -> list[Sample]:
        rng = draw_rng(settings, world, step)
        samples = [sampler.draw(rng, settings.voxels) for _ in range(per_step)]
        if settings.small_lesion_ml == 0.0:
            return samples
        voxel_ml = float(np.prod(settings.plan.spacing_mm)) / 1000.0
        return [replace(s, weight=small_lesion_weight(s.label, voxel_ml, settings.small_lesion_ml)) for s in samples]

    draws = Draws(draw, last=settings.steps, workers=settings.draw_workers)

    def focus_step(step: int) -> Values:
        samples, loss = draws.take(step), 0.0
        for start in range(0, per_step, settings.batch):
            part = samples[start : start + settings.batch]
            image, label, dice, weight = batch_of(part, settings, world.device)
            loss += read(image, label, dice, weight, settings.accumulation)[1] / settings.accumulation
        return update({"focus_loss": loss})

    def joint_step(step: int) -> Values:
        batch = batch_of(draws.take(step), settings, world.device)
        images, labels = batch[:2]
        losses, rewards = [], []
        pieces = list(zip(*(torch.split(part, settings.batch) for part in batch), strict=True))
        for image, label, dice, weight in pieces:
            logits, loss = read(image, label, dice, weight, len(pieces))
            losses.append(loss)
            rewards.append(reward_of(settings)(logits, label))
        values = {"focus_loss": sum(losses) / len(losses)}
        if settings.gate != "none":
            # The first channel is what a Glance sees.
            values |= judge(settings, run, policy, autocast(), (images[:, :1], labels, torch.cat(rewards)), step)
        return update(values)

    if settings.stage == "glance":
        pool = Pool(settings, sampler, run.focus, reward_of(settings), world, autocast)

        def glance_step(step: int) -> Values:
            group = pool.group(draw_rng(settings, world, step), step)
            return update(judge(settings, run, policy, autocast(), group, step))

        return glance_step
    return focus_step if settings.stage == "focus" else joint_step


def reward_of(settings: TrainingSettings) -> Callable[[Tensor, Tensor], Tensor]:
    """The reward of the gate variant; a cross-entropy gate is watched with the detection reward."""
    return objectives.dice_reward if settings.gate in DICE_GATES else objectives.detection_reward


def evaluate(settings: TrainingSettings, run: Run, sampler: PatchSampler, journal: Journal) -> None:
    """Score the averaged Focus and the Glance on dev sub-volumes, each if it is being trained."""
    start = time.monotonic()
    samples = dev_samples(sampler, settings.evaluation_crops, settings.voxels, EVALUATION_SEED)
    values: dict[str, float | int | str | None] = {}
    if settings.stage != "glance":
        focus = run.focus_average.network if settings.ema else run.focus
        values |= summarise(score_focus(focus, samples, settings.plan.spacing_mm))
    if settings.stage != "focus" and settings.gate != "none":
        samples += background_samples(sampler, settings.evaluation_crops, settings.voxels, EVALUATION_SEED)
        lesion = np.array([bool((s.label == objectives.LESION_CLASS).any()) for s in samples])
        values |= summarise_gate(glance_probabilities(run.glance, [s.image for s in samples]), lesion)
    journal.report("dev", run.step, {**values, "seconds": time.monotonic() - start})


def keep(job: Job, run: Run, settings: TrainingSettings) -> None:
    """Write a checkpoint; a full disk is reported and the run goes on with the previous checkpoint in place."""
    try:
        save_checkpoint(job.folder, run, settings)
    except OutputError as error:
        log.warning("%s", error)


def write_weights(folder: Path, settings: TrainingSettings, run: Run) -> None:
    """Write the weights folder that `predict` accepts: the averaged Focus, if there is an average, and the Glance."""
    focus = run.focus_average.network if settings.ema else run.focus
    info = {"stage": settings.stage, "gate": settings.gate, "steps": run.step, "seconds": round(run.seconds)}
    plan = replace(settings.plan, weights="trained")
    save_weights(folder, plan, run.glance.state_dict(), focus.state_dict(), info=info)
    log.info("weights written to %s", folder)
