"""MLServer with a custom runtime over the V2 protocol's JSON: an option is one FP64 tensor of seven numbers.

The answer is one of six. The settings are in catalogue.py.
"""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,misc,no-any-return"
# Runs in an environment of its own, which the type checker does not see.

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.peers.model import Option, Pricer


class Runtime(MLModel):
    """The model."""

    async def load(self) -> bool:
        """Once, at the start."""
        self.pricer = Pricer()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One option, or the batch MLServer made of several requests."""
        data = payload.inputs[0].data.root
        rows = len(data) // 7
        if rows == 1:
            values = list(self.pricer.one(Option(*data)))
        else:
            options = [Option(*data[i : i + 7]) for i in range(0, len(data), 7)]
            values = [number for answer in self.pricer.many(options) for number in answer]
        output = ResponseOutput(name="greeks", shape=[rows, 6], datatype="FP64", data=values)
        return InferenceResponse(model_name=self.name, outputs=[output])
