"""`pinn-operator simulate`: a rollout under metrics that were recorded or made up, decided by the operator's own `decide`.

Nothing here knows a rule: it stands in for the cluster, the gateway, the users and the servers, and writes down what is decided.
"""

from pinn_operator.simulate.recording import Recording, Unusable, read_recording
from pinn_operator.simulate.scenario import Scenario, scenario_of
from pinn_operator.simulate.story import Story, story_of
from pinn_operator.simulate.words import as_document, as_text

__all__ = [
    "Recording",
    "Scenario",
    "Story",
    "Unusable",
    "as_document",
    "as_text",
    "read_recording",
    "scenario_of",
    "story_of",
]
