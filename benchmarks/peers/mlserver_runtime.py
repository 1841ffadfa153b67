"""MLServer with a custom runtime over the V2 protocol's JSON: an option is one FP64 tensor of seven numbers.

The answer is one of six. The settings are in catalogue.py.
"""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,misc,no-any-return"
# Runs in an environment of its own, which the type checker does not see.

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.peers.model import Option, Pricer


class Runtime(MLModel):
    """The model."""

    async def load(self) -> bool:
        """Once, at the start."""
        self.pricer = Pricer()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One option, or many in one tensor."""
        tensor = payload.inputs[0]
        if tensor.shape[0] == 1:
            values = list(self.pricer.one(Option(*tensor.data.root)))
            output = ResponseOutput(name="greeks", shape=[1, 6], datatype="FP64", data=values)
        else:
            columns = Option(*NumpyCodec.decode_input(tensor).reshape(-1, 7).T)
            output = NumpyCodec.encode_output("greeks", np.array(self.pricer.columns(columns)).T.copy())
        return InferenceResponse(model_name=self.name, outputs=[output])
