"""Lines as the real servers write them: seen here, or in the issues of triton-inference-server."""

from __future__ import annotations

import pytest

from pytest_gpuperf.targets.triton.log import log_excerpt, port_was_taken

QUIET = """\
W1122 11:58:59.1 15938 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory, pinned memory pool"
I1122 11:58:59.2 15938 cuda_memory_manager.cc:107] "CUDA memory pool disabled"
E1122 11:58:59.3 15938 server.cc:241] "CudaDriverHelper has not been initialized."
"""
FAILED = "E1122 11:58:59.4 15938 model_lifecycle.cc:642] \"failed to load 'm' version 1: {}\"\n"
AFTER = 'I1122 11:58:59.5 15938 server.cc:345] "Timeout 6"\nerror: creating server: Internal - failed\n'


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (
            "Internal: 6: The engine plan file is not compatible with this version of TensorRT, expecting library "
            "version 10.5.0 got 10.13.2, please rebuild.",
            "built by another version of TensorRT",
        ),
        (
            "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion stdVersionRead == "
            "kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 239, Serialized Engine "
            "Version: 240)",
            "built by another version of TensorRT",
        ),
        (
            "Error Code 6: The engine plan file is generated on an incompatible device, expecting compute 8.6 got "
            "compute 7.5, please rebuild.",
            "built for another GPU",
        ),
        (
            "Invalid argument: unable to find backend library for backend 'tensorrt', try specifying runtime on the "
            "model configuration.",
            "lacks this backend",
        ),
        ("Invalid argument: unable to find 'libtriton_tensorrt_plan.so' for model 'm'", "lacks this backend"),
        (
            "Invalid argument: instance group m_0 of model m has kind KIND_GPU but no GPUs are available",
            "needs a GPU that is not visible to the server",
        ),
        (
            "Invalid argument: instance group m_1 of model m specifies invalid or unsupported gpu id 1. GPUs with at "
            "least the minimum required CUDA compute compatibility of 6.000000 are: 0",
            "needs a GPU that is not visible to the server",
        ),
        (
            "Internal: autofill failed for model 'm': configuration specified max-batch 64 but TensorRT engine only "
            "supports max-batch 32",
            "max_batch_size is above the limit of the plan's profile",
        ),
        ("Internal: onnx runtime error 6: CUDA failure 2: out of memory", "memory is full"),
        ("Internal: ModuleNotFoundError: No module named 'onnxruntime'", "has no ONNX Runtime"),
    ],
)
def test_a_known_cause_has_its_remedy(said: str, remedy: str) -> None:
    text = log_excerpt(QUIET + FAILED.format(said) + AFTER)
    assert said in text
    assert remedy in text.splitlines()[-1]
    assert "CudaDriverHelper" not in text
    assert "Timeout 6" not in text


def test_docker_s_own_errors_are_told() -> None:
    said = 'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].'
    text = log_excerpt(f"{said}\n\nRun 'docker run --help' for more information\n")
    assert said in text
    assert "NVIDIA Container Toolkit" in text


def test_an_unknown_cause_is_shown_as_it_is() -> None:
    text = log_excerpt(QUIET + FAILED.format("Internal: something new") + AFTER)
    assert text.splitlines()[1].endswith('version 1: Internal: something new"')
    assert text.splitlines()[-1] == "  error: creating server: Internal - failed"


def test_without_an_error_the_end_is_shown() -> None:
    assert log_excerpt("I1122 1\nI1122 2\n", lines=1) == "Its log says:\n  I1122 2"
    assert log_excerpt("") == "Its log is empty."


def test_a_remedy_is_for_an_error_only() -> None:
    assert "memory is full" not in log_excerpt("I1122 11:58:59.5 1 x.cc:1] out of memory is what we are not\n")


def test_a_snatched_port() -> None:
    assert port_was_taken(
        "E1122 x.cc:1] failed to start HTTP service: Unavailable - Socket '127.0.0.1:80' already in use"
    )
    assert not port_was_taken(QUIET)
