"""A campaign file -> stages whose scenarios are read and checked, before anything is simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator import inputs
from simulator.campaign.config import CampaignConfig, StageConfig
from simulator.campaign.sft import sft_span
from simulator.campaign.spans import Span
from simulator.campaign.training import Folder, spans
from simulator.errors import InputError
from simulator.inputs import Document


@dataclass(frozen=True)
class Stage:
    """A stage that counts, with what is simulated of it."""

    config: StageConfig
    """What the file says."""
    spans: tuple[Span, ...] = ()
    """The parts of a training run."""
    inner: Campaign | None = None
    """The campaign that it stands for."""


@dataclass(frozen=True)
class Campaign:
    """A campaign, read: only the stages that count."""

    config: CampaignConfig
    """The file as configuration."""
    stages: tuple[Stage, ...]
    """The stages that its options leave."""


def read(name: str, sets: Mapping[str, Any] | None = None) -> Campaign:
    """Read a campaign: a path, or the bare name of a shipped one.

    sets: path of keys -> value, with or without `campaign.` before it. Errors: InputError with file,
    line and key.
    """
    changes = {key.removeprefix("campaign."): value for key, value in (sets or {}).items()}
    return _read(inputs.find(name, "campaigns"), changes, ())


def _read(path: Path, sets: Mapping[str, Any], above: tuple[Path, ...]) -> Campaign:
    """Read a campaign file. above: the files that stand for this one, from the outermost."""
    document = inputs.read(path)
    for key, value in sets.items():
        document = inputs.override(document, key, value)
    config = inputs.validate(document, CampaignConfig)
    _check_stages_named(config, document)
    files = (*above, path.resolve())
    stages = []
    for index, stage in enumerate(config.stages):
        if stage.option and not config.options[stage.option]:
            continue
        try:
            stages.append(_stage(config, stage, files))
        except InputError as error:
            raise _located(error, document, index, stage) from error
    return Campaign(config, tuple(stages))


def _stage(config: CampaignConfig, stage: StageConfig, files: tuple[Path, ...]) -> Stage:
    folder = Folder(files[-1].parent)
    if stage.train:
        return Stage(stage, spans=spans(stage.train, config.topology, folder))
    if stage.sft:
        return Stage(stage, spans=(sft_span(stage.sft, config.topology, folder),))
    if stage.campaign:
        try:
            path = folder.file(stage.campaign.name, "campaigns")
        except InputError as error:
            error.key = "name"
            raise
        if path.resolve() in files:
            raise InputError("contains itself", key="name", value=stage.campaign.name)
        inner = _read(path, {}, files)
        return Stage(stage, inner=_only(inner, stage.campaign.stages))
    return Stage(stage)


def _only(campaign: Campaign, names: tuple[str, ...]) -> Campaign:
    """Return a campaign with the named stages alone; all where none is named. Errors: InputError."""
    if not names:
        return campaign
    known = [stage.config.name for stage in campaign.stages]
    for name in names:
        if name not in known:
            raise InputError(
                f"is not a stage of {campaign.config.name}",
                key="stages",
                value=name,
                remedy=f"Choose from: {', '.join(known)}.",
            )
    kept = tuple(stage for stage in campaign.stages if stage.config.name in names)
    return Campaign(campaign.config, kept)


def _check_stages_named(config: CampaignConfig, document: Document) -> None:
    """Refuse what repeats stages that do not come before it. Errors: InputError."""
    before: list[str] = []
    for index, stage in enumerate(config.stages):
        for name in stage.repeat.stages if stage.repeat else ():
            if name not in before:
                error = InputError(
                    "is not a stage before this one",
                    value=name,
                    remedy=f"Choose from: {', '.join(before) or 'none'}.",
                )
                raise error.at(**document.locate(("stages", index, "repeat", "stages")))
        before.append(stage.name)


def _located(error: InputError, document: Document, index: int, stage: StageConfig) -> InputError:
    """Return an error of a stage's scenario with its place in the campaign's file."""
    if error.file not in ("", "--set"):
        return error  # another file's own mistake, which it names
    # A scenario's `--set` is what this file says under `set`.
    inner = ("set", error.key) if error.file == "--set" else tuple(error.key.split("."))
    place = document.locate(("stages", index, stage.kind, *inner))
    error.file = error.key = ""
    return error.at(**place)
