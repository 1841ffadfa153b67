"""KServe's model server with a custom predictor over the V2 protocol's JSON: an option is one FP64 tensor of seven numbers.

The answer is one of six. The options it is started with are in catalogue.py.
"""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,misc,no-any-return"
# Runs in an environment of its own, which the type checker does not see.

from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid

from benchmarks.peers.model import Option, Pricer

NAME = "black-scholes"


class Prices(Model):
    """The model."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.pricer = Pricer()
        self.ready = True

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        """One option, or many in one tensor."""
        tensor = payload.inputs[0]
        if is_one := tensor.shape[0] == 1:
            values = np.array([self.pricer.one(Option(*tensor.data))])
        else:
            values = np.array(self.pricer.columns(Option(*tensor.as_numpy().reshape(-1, 7).T))).T
        output = InferOutput(name="greeks", shape=list(values.shape), datatype="FP64")
        output.set_data_from_numpy(values, binary_data=not is_one)
        return InferResponse(
            response_id=payload.id or generate_uuid(),
            model_name=NAME,
            infer_outputs=[output],
            use_binary_outputs=payload.use_binary_outputs,
        )


if __name__ == "__main__":
    ModelServer().start([Prices()])
