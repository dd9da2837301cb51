"""Secrets of lanes come from the environment or from Prefect, and an error names them without telling them."""

import pytest

from flows.credentials import secret_of


def test_a_secret_block_of_prefect_is_looked_up_when_it_is_asked_for(prefect_server):
    from prefect.blocks.system import Secret

    Secret(value="# Netscape HTTP Cookie File\n").save("office-cookies", overwrite=True)

    assert secret_of("block:office-cookies") == "# Netscape HTTP Cookie File\n"
    with pytest.raises(ValueError, match="names block:nowhere, but Prefect has no Secret block nowhere"):
        secret_of("block:nowhere")


def test_a_secret_of_the_environment_is_looked_up_when_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("OFFICE_PROXY", "http://me:s3cr3t@proxy:8080")

    assert secret_of("env:OFFICE_PROXY") == "http://me:s3cr3t@proxy:8080"
    with pytest.raises(ValueError, match="names env:HOME_PROXY, but the environment has no HOME_PROXY"):
        secret_of("env:HOME_PROXY")
