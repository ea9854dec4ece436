"""From a step to a training programme: stages, spans, GPU-hours, money; no second simulator.

    campaign file --read--> Campaign --scenarios, simulated--> Steps --ledger--> Ledger

`config`: what a campaign file says. `reader`, `training`: files -> stages with their scenarios.
`spans`: steps and time of a part of a run, also along a batch ramp. `steps`: every distinct scenario
simulated once. `money`: rent, ownership, energy. `ledger`: what stages come to, beside published
figures. `tree`: as JSON.
"""

from __future__ import annotations

from simulator.campaign.config import CampaignConfig
from simulator.campaign.ledger import Beside, Entry, Ledger, Line, Sum, ledger
from simulator.campaign.money import Owned, Rent, rents
from simulator.campaign.reader import Campaign, Stage, read
from simulator.campaign.steps import Step, Steps, scenarios, simulated
from simulator.campaign.tree import as_dict

__all__ = [
    "Beside",
    "Campaign",
    "CampaignConfig",
    "Entry",
    "Ledger",
    "Line",
    "Owned",
    "Rent",
    "Stage",
    "Step",
    "Steps",
    "Sum",
    "as_dict",
    "ledger",
    "read",
    "rents",
    "scenarios",
    "simulated",
]
