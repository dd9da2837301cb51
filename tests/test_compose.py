"""compose.yaml: by its schema, with pages on loopback only, and without a secret. It is not started here."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
COMPOSE = REPOSITORY / "compose.yaml"
PROGRAMS = {"mcgurk", "prefect", "mlflow", "dask", "python", "sh"}  # in the image


@pytest.fixture(scope="module")
def composed() -> dict:
    return yaml.safe_load(COMPOSE.read_text())


def validated(path: Path) -> subprocess.CompletedProcess:
    """What the schema of the Compose specification says of a file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_it_is_what_the_specification_allows():
    done = validated(COMPOSE)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ports: [", "port: ["),
        ("condition: service_healthy", "condition: up"),
        ("internal: true", "internal: [1]"),
    ],
)
def test_a_mistake_in_it_is_found(before, after, tmp_path):
    (tmp_path / "compose.yaml").write_text(COMPOSE.read_text().replace(before, after))

    assert validated(tmp_path / "compose.yaml").returncode == 1


def test_its_pages_are_on_loopback_only(composed):
    ports = {name: port for name, one in composed["services"].items() for port in one.get("ports", [])}

    assert ports == {"prefect": "127.0.0.1:4200:4200", "mlflow": "127.0.0.1:5000:5000"}
    outer = {name for name, one in composed["services"].items() if "outer" in one["networks"]}
    assert outer == {*ports, "worker"} and composed["networks"]["inner"] == {"internal": True}


def test_its_services_run_what_the_image_has_and_name_what_there_is(composed):
    services = composed["services"]
    for one in services.values():
        assert one["image"] == "mcgurk" or ":" in one["image"]
        assert one["image"] != "mcgurk" or one["command"][0] in PROGRAMS
        assert set(one.get("depends_on", ())) <= set(services)
        assert set(one.get("secrets", ())) <= set(composed["secrets"])
    used = {name for one in services.values() for name in one.get("secrets", ())}
    assert used == set(composed["secrets"])


def test_each_pool_of_the_deployments_has_a_worker(composed):
    """A run of a pool without one would wait for ever."""
    deployed = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    words = [" ".join(one.get("command", ())) for one in composed["services"].values()]

    for pool in {one["work_pool"]["name"] for one in deployed}:
        assert any(f"prefect worker start --pool {pool} " in f"{text} " for text in words), pool


def test_its_secrets_are_made_once_and_for_this_account_only(composed, tmp_path):
    script = tmp_path / "make-secrets"
    script.write_text((REPOSITORY / "compose" / "make-secrets").read_text())

    subprocess.run(["sh", str(script)], check=True)

    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {one["file"] for one in composed["secrets"].values()} == {
        f"compose/secrets/{name}" for name in made
    }
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (tmp_path / "secrets").iterdir())
    assert len(made["AWS_SECRET_ACCESS_KEY"]) == 48
    for name in ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "MLFLOW_BACKEND_STORE_URI"):
        assert f":{made['POSTGRES_PASSWORD']}@postgres/" in made[name]
    again = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False)
    assert again.returncode and made["AWS_SECRET_ACCESS_KEY"] not in again.stderr
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made


def test_a_service_has_its_secrets_in_its_environment(tmp_path):
    """Without its last line, which becomes the user of the image."""
    (tmp_path / "NAME").write_text("a secret = $x")
    script = (REPOSITORY / "compose" / "with-secrets").read_text().replace("/run/secrets", str(tmp_path))
    *lines, last = script.splitlines()
    assert last == 'exec setpriv --reuid mcgurk --regid mcgurk --init-groups "$@"'

    told = subprocess.run(
        ["sh", "-c", "\n".join([*lines, 'exec "$@"']), "sh", "sh", "-c", 'printf %s "$NAME"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert told == "a secret = $x"
