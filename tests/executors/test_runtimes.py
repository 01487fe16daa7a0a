"""Command lines of container runtimes, as texts."""

import shlex

import pytest

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.runtimes import RUNTIMES, Container, Runtime, client_variables, removal_words, run_words


def container(**changes):
    fields = {
        "name": "dflow-1-main",
        "image": "alpine:3",
        "command": ("sh", "-c"),
        "args": ("echo $A",),
        "variables": {"A": "secret", "PATH": "/bin"},
        "mounts": [("/run/leaf/root/tmp", "/tmp")],
        "directory": "/work",
        "user": "1000:1000",
    }
    return Container(**{**fields, **changes})


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        (
            "podman",
            "podman run --rm --name dflow-1-main --security-opt label=disable --volume /run/leaf/root/tmp:/tmp "
            "--env A --env PATH=/bin --workdir /work --entrypoint sh alpine:3 -c 'echo $A'",
        ),
        (
            "docker",
            "docker run --rm --name dflow-1-main --security-opt label=disable --user 1000:1000 "
            "--volume /run/leaf/root/tmp:/tmp --env A --env PATH=/bin --workdir /work --entrypoint sh alpine:3 "
            "-c 'echo $A'",
        ),
        (
            "apptainer",
            "apptainer exec --contain --cleanenv --no-home --writable-tmpfs --bind /run/leaf/root/tmp:/tmp "
            "--pwd /work docker://alpine:3 sh -c 'echo $A'",
        ),
        (
            "singularity",
            "singularity exec --contain --cleanenv --no-home --writable-tmpfs --bind /run/leaf/root/tmp:/tmp "
            "--pwd /work docker://alpine:3 sh -c 'echo $A'",
        ),
        (
            "charliecloud",
            "charlie.sh alpine:3 'A PATH' --bind /run/leaf/root/tmp:/tmp --cd /work ./.image -- sh -c 'echo $A'",
        ),
    ],
)
def test_words(runtime, words):
    assert run_words(runtime, container()) == shlex.split(words)


def test_without_a_command_the_image_decides():
    plain = container(command=(), args=("x",), mounts=(), directory=None, variables={})
    assert run_words("podman", plain)[-2:] == ["alpine:3", "x"]
    assert "--entrypoint" not in run_words("podman", plain)
    assert run_words("apptainer", plain)[1] == "run"


@pytest.mark.parametrize("image", ["/images/a.sif", "/images/directory", "oras://registry/a"])
def test_apptainer_takes_its_own_images_as_they_are(image):
    assert image in run_words("apptainer", container(image=image))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_values_of_variables_are_no_arguments(runtime):
    made = container()
    assert not any("secret" in word for word in run_words(runtime, made))
    found = client_variables(runtime, made)
    assert "secret" in found.values()
    if runtime in ("podman", "docker"):
        assert "PATH" not in found  # it is the client's own


def test_of_a_machines_images_the_exact_name_counts_then_the_first_pattern():
    machine = Runtime("podman", {"python:*": "/a", "python:3.8": "/b", "*": "/c"})
    assert [machine.image(name) for name in ("python:3.8", "python:3.9", "alpine")] == ["/b", "/a", "/c"]
    assert Runtime("podman").image("alpine") == "alpine"


def test_a_path_that_cannot_be_said_to_a_runtime_is_refused():
    with pytest.raises(ConfigError, match="names with : or ,"):
        run_words("apptainer", container(mounts=[("/a:b", "/b")]))


def test_removal():
    assert removal_words("podman", "x") == ["podman", "rm", "--force", "--ignore", "--time", "0", "x"]
    assert removal_words("docker", "x") == ["docker", "rm", "--force", "x"]
    assert removal_words("apptainer", "x") is None


def test_a_directory_is_podmans_root_and_stays_as_it_is():
    assert run_words("podman", container(image="/images/a", options=("--network=none",)))[-5:-1] == [
        "--network=none",
        "--rootfs",
        "/images/a:O",
        "-c",
    ]


def test_an_unknown_runtime():
    with pytest.raises(ConfigError, match="runtime 'lxc' was asked for; known are host, podman, docker, apptainer"):
        run_words("lxc", container())
