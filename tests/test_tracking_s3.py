"""Runs in PostgreSQL, files on S3-compatible storage: servers of this machine, with none of MLflow between."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import postgres

from glidexp.tracking import registry
from glidexp.tracking.found import fetch_file, finished_of
from glidexp.tracking.models import fetch, find_model, read_text
from glidexp.tracking.run import Run
from glidexp.tracking.store import open_store

BUCKET = "lakes"


@contextmanager
def storage(patch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an S3 server with an empty bucket, to which MLflow is pointed as docs/tracking.md says."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        for name, value in {
            "MLFLOW_S3_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "a-secret",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=address)
        client.create_bucket(Bucket=BUCKET)
        yield client
        client.close()
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # of mlflow's own import
def test_runs_models_and_releases_are_kept_in_postgresql_and_on_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres() as database, storage(monkeypatch) as s3:
        store = open_store(database, tmp_path / "mlruns")
        store.client.create_experiment("glidexp", artifact_location=f"s3://{BUCKET}/glidexp")
        with Run.start(store, experiment="glidexp", run_name="r", config_flat={"seed": 0}, config_id="abc") as run:
            run.metrics({"val/f1_pooled": 0.5}, 0)
            run.text("hello", "note.txt")
            assert run.flush()
        found = store.find_run("abc", "glidexp")
        assert found is not None and (found.status, found.metrics) == ("FINISHED", {"val/f1_pooled": 0.5})
        assert read_text(store, run.run_id, "note.txt", tmp_path) == "hello"
        (tracked,) = finished_of(store, [run.run_id]).values()
        assert fetch_file(store, tracked, "note.txt", tmp_path / "copy").read_text() == "hello"

        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle" / "card.json").write_text(json.dumps({"a": 1}))
        given = {"run_id": run.run_id, "pip_requirements": ["torch"], "tags": {"glidexp.gate": "passed"}}
        first = registry.release(store, "s3-lakes", bundle=tmp_path / "bundle", against=None, **given)
        champion = registry.holder(open_store(database, tmp_path / "elsewhere"), "s3-lakes")
        assert champion is not None and champion.number == first.number
        model = find_model(store, "models:/s3-lakes@champion")
        assert model.location.startswith(f"s3://{BUCKET}/glidexp/")
        (card,) = fetch(store, model, tmp_path / "fetched").rglob("card.json")
        assert json.loads(card.read_text()) == {"a": 1}

        keys = [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
        assert any(key.endswith(f"{run.run_id}/artifacts/note.txt") for key in keys)
        assert not (tmp_path / "mlruns" / "artifacts").exists(), "no file stays on this machine"
