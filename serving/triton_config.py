"""config.pbtxt: a model's settings as Triton's own message, so that what is rendered is valid by construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from infra.plan import ModelServing
from serving.signature import Port


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What one config.pbtxt says."""

    name: str
    backend: str
    settings: ModelServing
    kind: str  # KIND_CPU or KIND_GPU
    instances: int
    max_queue: int  # requests that may wait; more are refused at once
    queue_timeout_us: int
    inputs: Sequence[Port] = ()
    outputs: Sequence[Port] = ()
    batched: bool = True
    parameters: Mapping[str, str] = field(default_factory=dict)
    response_cache: bool = False
    warm: bool = True
    versions: tuple[int, ...] = ()  # empty: the version of the settings alone


def render(config: ModelConfig) -> str:
    """The text of config.pbtxt."""
    message = pb.ModelConfig(
        name=config.name,
        backend=config.backend,
        max_batch_size=config.settings.max_batch if config.batched else 0,
        version_policy=pb.ModelVersionPolicy(
            specific=pb.ModelVersionPolicy.Specific(versions=config.versions or [config.settings.version])
        ),
        instance_group=[
            pb.ModelInstanceGroup(count=config.instances, kind=pb.ModelInstanceGroup.Kind.Value(config.kind))
        ],
        parameters={k: pb.ModelParameter(string_value=v) for k, v in sorted(config.parameters.items())},
    )
    message.input.extend(
        pb.ModelInput(name=p.name, data_type=_type(p), dims=_dims(p), reshape=_reshape(p)) for p in config.inputs
    )
    message.output.extend(
        pb.ModelOutput(name=p.name, data_type=_type(p), dims=_dims(p), reshape=_reshape(p)) for p in config.outputs
    )
    if config.batched and config.settings.max_batch > 1:
        message.dynamic_batching.CopyFrom(_batching(config))
    if config.response_cache:
        message.response_cache.enable = True
    if config.warm and config.inputs:
        sizes = sorted({1, config.settings.max_batch}) if config.batched else [0]
        message.model_warmup.extend(_warm_up(config.inputs, size) for size in sizes)
    return text_format.MessageToString(message)


def parse(text: str) -> pb.ModelConfig:
    """The message that a config.pbtxt says; raises text_format.ParseError."""
    return text_format.Parse(text, pb.ModelConfig())


def _batching(config: ModelConfig) -> pb.ModelDynamicBatching:
    return pb.ModelDynamicBatching(
        preferred_batch_size=config.settings.preferred_batch,
        max_queue_delay_microseconds=config.settings.queue_delay_us,
        default_queue_policy=pb.ModelQueuePolicy(
            timeout_action=pb.ModelQueuePolicy.REJECT,
            default_timeout_microseconds=config.queue_timeout_us,
            allow_timeout_override=True,  # a client may ask for less, never for more
            max_queue_size=config.max_queue,
        ),
    )


def _warm_up(inputs: Sequence[Port], size: int) -> pb.ModelWarmup:
    return pb.ModelWarmup(
        name=f"batch_{size}",
        batch_size=size,
        count=1,
        inputs={
            p.name: pb.ModelWarmup.Input(
                data_type=_type(p), dims=[1 if d == -1 else d for d in _dims(p)], zero_data=True
            )
            for p in inputs
        },
    )


def _type(port: Port) -> pb.DataType:
    name = "STRING" if port.datatype == "BYTES" else port.datatype
    return pb.DataType.Value(f"TYPE_{name}")


def _dims(port: Port) -> Sequence[int]:
    return port.dims or port.no_dims


def _reshape(port: Port) -> pb.ModelTensorReshape | None:
    return pb.ModelTensorReshape(shape=[]) if port.no_dims else None
