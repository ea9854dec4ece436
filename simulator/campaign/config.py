"""What a campaign file says, as validated configuration.

| a file says                                   | what it is                                           |
|-----------------------------------------------|------------------------------------------------------|
| `train: {workload: deepseek-v3}`              | the workload's own tokens at its own batch           |
| `spans: [{tokens: 252e6, set: {...}}, {}]`    | one after another; the one without an amount takes the rest |
| `ramp: {from: 3072, to: 15360}`               | a batch that grows evenly with the tokens of its span |
| `sft: {workload: deepseek-v3-sft, samples: 804745, ...}` | samples of unequal length, packed |
| `repeat: {stages: [pre-training], share: 0.1}` | a tenth of a stage once more: ablations, failed runs |
| `campaign: {name: deepseek-v3}`               | another campaign as one stage                        |
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from simulator.campaign.money import EnergyConfig, OwnConfig
from simulator.campaign.reliability import ReliabilityConfig
from simulator.campaign.section import Section
from simulator.errors import InputError
from simulator.units import Integer, Number, Price, Seconds

FIGURES = ("gpu_hours", "cost_usd", "wall_days", "tokens", "steps", "energy_kwh", "emissions_t")
"""Figures of a stage or of a whole campaign with which published ones can be compared."""
Basis = Literal["published", "assumed", "reported"]
"""Where the settings are from: their publisher, a stated rule, or the press, unconfirmed."""


def _figure(name: str) -> str:
    if name not in FIGURES:
        raise InputError(
            "is not a figure of a campaign",
            value=name,
            remedy=f"Choose from: {', '.join(FIGURES)}.",
        )
    return name


class Figure(Section):
    """A published figure with which the simulated one is compared."""

    quantity: Annotated[str, AfterValidator(_figure)] = Field(
        description=f"What was published, one of {', '.join(FIGURES)}.", examples=["gpu_hours"]
    )
    value: Number = Field(
        gt=0, description="The published figure, in the quantity's unit.", examples=[2664000]
    )
    source: str = Field(
        description="Where it was published.", examples=["arXiv 2412.19437, table 1"]
    )
    includes: str = Field(
        "",
        description="What the published figure counts, as far as its source says.",
        examples=["pre-training alone, batch ramp included"],
    )


class RampConfig(Section):
    """A batch that grows evenly with the tokens of its span."""

    start: Integer = Field(
        alias="from",
        gt=0,
        description="Number of sequences per step at the beginning.",
        examples=[3072],
    )
    to: Integer = Field(
        gt=0, description="Number of sequences per step at the end.", examples=[15360]
    )
    points: Integer = Field(
        4,
        ge=2,
        le=64,
        description=(
            "How many batches are simulated, both ends included; between them the step time is "
            "taken to grow linearly."
        ),
    )

    @model_validator(mode="after")
    def _rises(self) -> RampConfig:
        if self.start >= self.to:
            raise InputError(
                f"is not above from, {self.start}",
                key="to",
                value=self.to,
                remedy="A ramp goes from a smaller batch to a larger one.",
            )
        return self


class SpanConfig(Section):
    """A part of a training run with a batch, a sequence length and a layout of its own."""

    tokens: Number | None = Field(
        None, gt=0, description="Number of tokens of this span.", examples=[469e9]
    )
    steps: Integer | None = Field(
        None, gt=0, description="Number of steps, instead of tokens.", examples=[1000]
    )
    duration: Seconds | None = Field(
        None,
        gt=0,
        description="Wall time, instead of tokens: what can be trained in it is the answer.",
        examples=["7 d"],
    )
    workload: str = Field(
        "",
        description="What to train, where it is not the stage's own workload.",
        examples=["deepseek-v3-32k"],
    )
    topology: str = Field(
        "", description="Where to train, where it is not the stage's own.", examples=["h800-2048"]
    )
    set: dict[str, Any] = Field(
        {},
        description="Keys of either file that are different here, as `--set` takes them.",
        examples=[{"training.seq_length": 4096}],
    )
    ramp: RampConfig | None = Field(None, description="A batch that grows over this span.")

    @model_validator(mode="after")
    def _one_amount(self) -> SpanConfig:
        given = [key for key in ("tokens", "steps", "duration") if getattr(self, key) is not None]
        if len(given) > 1:
            raise InputError(
                f"cannot stand next to {given[0]}",
                key=given[1],
                value=getattr(self, given[1]),
                remedy="Keep one of them.",
            )
        if self.ramp and self.duration is not None:
            raise InputError(
                "cannot be the amount of a ramp",
                key="duration",
                remedy="Give its tokens or its steps.",
            )
        return self


class TrainConfig(SpanConfig):
    """A training run: one span, or several one after another."""

    spans: tuple[SpanConfig, ...] = Field(
        (),
        description=(
            "Parts of the run in their order, each with what differs from the keys above; one may "
            "leave its amount out and gets what the others leave."
        ),
        examples=[[{"tokens": 252e6, "set": {"training.seq_length": 4096}}, {}]],
    )

    @model_validator(mode="after")
    def _ramp_has_its_span(self) -> TrainConfig:
        if self.spans and self.ramp:
            raise InputError(
                "has no effect next to spans",
                key="ramp",
                remedy="Move it into the span whose batch grows.",
            )
        return self


class SftConfig(Section):
    """Fine-tuning on samples of unequal length."""

    workload: str = Field(
        description="What to train; its sequence length is that of the longest sample.",
        examples=["deepseek-v3-sft"],
    )
    topology: str = Field(
        "", description="Where to train, where it is not the campaign's own.", examples=["h800-512"]
    )
    set: dict[str, Any] = Field(
        {},
        description="Keys of either file that are different here, as `--set` takes them.",
        examples=[{"training.seq_length": 4096}],
    )
    samples: Integer = Field(gt=0, description="Number of samples.", examples=[804745])
    mean_length: Number = Field(
        gt=0, description="Mean number of tokens of a sample.", examples=[5355]
    )
    spread: Number = Field(
        1.0,
        ge=0,
        le=3,
        description="Standard deviation of the logarithm of the length, of a log-normal; assumed.",
        examples=[1.0],
    )
    epochs: Number = Field(gt=0, description="How often each sample is seen.", examples=[2])
    packing: Literal["best_fit", "padding"] = Field(
        "best_fit",
        description=(
            "Whether samples share sequences, attention staying inside each (best_fit), or have one "
            "each, padded to its end (padding)."
        ),
    )


class RepeatConfig(Section):
    """What a programme repeats or throws away, as a share of other stages."""

    stages: tuple[str, ...] = Field(
        (),
        description="Names of the stages; default: all before this one that train.",
        examples=[["pre-training"]],
    )
    share: Number = Field(
        gt=0, description="GPU-hours over those of the stages together.", examples=[0.1]
    )
    low: Number | None = Field(
        None, ge=0, description="The share at the low end of the ledger.", examples=[0.05]
    )
    high: Number | None = Field(
        None, ge=0, description="The share at its high end.", examples=[0.3]
    )
    serial: bool = Field(
        False,
        description=(
            "Whether it takes wall time of its own, as a run that failed, or goes on next to the "
            "rest, as ablations on other GPUs do."
        ),
    )
    source: str = Field(
        description="Where the share is from, or the rule by which it is assumed.",
        examples=["assumed: one run in ten is thrown away"],
    )

    @model_validator(mode="after")
    def _ordered(self) -> RepeatConfig:
        low, high = self.ends
        if not low <= self.share <= high:
            raise InputError(
                f"is not between low {low:g} and high {high:g}", key="share", value=self.share
            )
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Return the share at the low and at the high end."""
        low = self.share if self.low is None else self.low
        high = self.share if self.high is None else self.high
        return low, high


class CampaignStageConfig(Section):
    """Another campaign as one stage."""

    name: str = Field(
        description="A path, or the bare name of a shipped campaign.", examples=["deepseek-v3"]
    )
    stages: tuple[str, ...] = Field(
        (),
        description="Names of its stages that count; default: all of them.",
        examples=[["pre-training"]],
    )


class StageConfig(Section):
    """One stage of a campaign: a name and what is done in it."""

    name: str = Field(description="Name of the stage.", examples=["pre-training"])
    train: TrainConfig | None = Field(None, description="A training run.")
    sft: SftConfig | None = Field(None, description="Fine-tuning on samples of unequal length.")
    repeat: RepeatConfig | None = Field(
        None, description="What is repeated or thrown away, as a share of other stages."
    )
    campaign: CampaignStageConfig | None = Field(None, description="Another campaign as one stage.")
    reliability: ReliabilityConfig | None = Field(
        None,
        description="What may happen to a run of weeks; default: nothing, every step at full speed.",
    )
    option: str = Field(
        "",
        description="Key of `options` without which this stage is left out.",
        examples=["with_r1_data"],
    )
    basis: Basis = Field(
        "published",
        description=(
            "Where the settings are from: published by those who ran it, assumed by a stated rule, "
            "or reported by the press and unconfirmed."
        ),
    )
    notes: tuple[str, ...] = Field(
        (),
        description="What a reader has to know about it, a sentence each.",
        examples=[["The layout is assumed."]],
    )
    published: tuple[Figure, ...] = Field(
        (),
        description="Published figures of this stage.",
        examples=[[{"quantity": "gpu_hours", "value": 2664000, "source": "arXiv 2412.19437"}]],
    )

    @property
    def kind(self) -> str:
        """Return which kind of stage it is: the key that it has."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _one_kind(self) -> StageConfig:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if self.reliability and not (self.train or self.sft):
            raise InputError(
                "has no effect on a stage that trains nothing",
                key="reliability",
                value=self.name,
                remedy="Leave it out.",
            )
        if len(given) != 1:
            rule = "is of no kind" if not given else f"is of several kinds: {', '.join(given)}"
            raise InputError(
                rule,
                value=self.name,
                remedy=f"Give it exactly one of {', '.join(f'{kind}:' for kind in KINDS)}",
            )
        return self


KINDS = ("train", "sft", "repeat", "campaign")
"""Keys of a stage that say what is done in it; `campaign.kinds` has a row for each."""


class CampaignConfig(Section):
    """A whole training programme: stages, and what is counted."""

    name: str = Field(description="Name of the campaign in reports.", examples=["deepseek-v3"])
    title: str = Field(
        "", description="What it is, in a few words.", examples=["DeepSeek-V3, the final run"]
    )
    topology: str = Field(
        description="The cluster of stages that name no other.", examples=["h800-2048"]
    )
    price: Price | None = Field(
        None,
        description=(
            "Rent of a GPU, also in campaigns that are stages; default: that of each stage's topology."
        ),
        examples=["2 USD per GPU-hour"],
    )
    own: OwnConfig | None = Field(
        None, description="What owning the GPUs would cost, next to their rent."
    )
    energy: EnergyConfig = Field(
        EnergyConfig(), description="What energy the campaign takes, costs and emits."
    )
    options: dict[str, bool] = Field(
        {},
        description="Switches of stages that not everybody would count; --set options.NAME=true.",
        examples=[{"with_r1_data": False}],
    )
    stages: tuple[StageConfig, ...] = Field(
        min_length=1,
        description="What is done, in its order.",
        examples=[[{"name": "pre-training", "train": {"workload": "deepseek-v3"}}]],
    )
    published: tuple[Figure, ...] = Field(
        (),
        description="Published figures of the whole.",
        examples=[[{"quantity": "gpu_hours", "value": 2788000, "source": "arXiv 2412.19437"}]],
    )
    counts: tuple[str, ...] = Field(
        (), description="What this ledger counts, a line each.", examples=[["one final run"]]
    )
    leaves_out: tuple[str, ...] = Field(
        (),
        description="What it leaves out though somebody paid for it, a line each.",
        examples=[["research and ablations"]],
    )

    @model_validator(mode="after")
    def _told_apart(self) -> CampaignConfig:
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise InputError(
                    "is the name of two stages",
                    key="stages",
                    value=name,
                    remedy="Give each a name of its own.",
                )
        return self

    @model_validator(mode="after")
    def _options_known(self) -> CampaignConfig:
        for index, stage in enumerate(self.stages):
            if stage.option and stage.option not in self.options:
                raise InputError(
                    "is not among the options of this file",
                    key=f"stages.{index}.option",
                    value=stage.option,
                    remedy=f"Add it above: options: {{{stage.option}: false}}.",
                )
        return self
