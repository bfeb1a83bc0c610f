"""STAC Items whose assets lie in S3, by the user's command: a server that asks who is there, moto's."""

import base64
import hashlib
import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest
from command import Eocat
from test_sources import write_bands

BANDS = ("B02", "B03", "B04", "B08")
ROOT = {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
READ_ALL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}],
}


@pytest.fixture(scope="module")
def bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bands(tmp_path_factory.mktemp("s3") / "bands", steps=dict.fromkeys(BANDS, 1))


@pytest.fixture(scope="module")
def access(bands: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """AWS_…: the server's address, and the key of a user who may read the bucket `scenes`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("moto") / "log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as server:
        try:
            await_answer(address, log)
            key = furnish(address, bands)
            yield {
                "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "eu-central-1",
                "AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            }  # fmt: skip
        finally:
            server.terminate()


def await_answer(address: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/moto-api/data.json", timeout=5).close()  # noqa: S310 - ours
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text())


def furnish(address: str, bands: Path) -> dict[str, str]:
    """Put the bands into a bucket, make a user who may read them, and have keys asked for from now on."""

    def client(service: str) -> Any:
        return closing(boto3.client(service, endpoint_url=address, region_name="us-east-1", **ROOT))

    with client("s3") as s3, client("iam") as iam:
        s3.create_bucket(Bucket="scenes")
        for path in bands.iterdir():
            s3.put_object(Bucket="scenes", Key=f"2024/{path.name}", Body=path.read_bytes())
        iam.create_user(UserName="reader")
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(READ_ALL))
        key: dict[str, str] = iam.create_access_key(UserName="reader")["AccessKey"]
    ask = urllib.request.Request(  # noqa: S310 - ours
        f"{address}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}, method="POST"
    )
    urllib.request.urlopen(ask).close()  # noqa: S310 - ours
    return key


def write_item(path: Path, bands: Path, **assets: dict[str, str]) -> Path:
    """An Item of that name; assets: what one of them states instead."""
    stated = {
        band: {
            "href": f"s3://scenes/2024/T33_{band}.tif",
            "file:checksum": "1220" + digest(bands / f"T33_{band}.tif"),
        }
        | assets.get(band, {})
        for band in BANDS
    }
    facts = {"datetime": "2024-06-01T10:00:31Z", "s2:product_type": "S2MSI2A"}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": path.stem, "properties": facts}
    path.write_text(json.dumps(item | {"assets": stated}))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def produce(tmp_path: Path, access: dict[str, str], items: list[Path], *, code: int) -> str:
    """What the command says; neither that nor anything that it writes holds a part of the key."""
    eocat = Eocat(tmp_path / "home", access).with_key()
    fixed = ["--collection", "c", "--key", "k", "--size", 24, "--threads", 1, "--out", tmp_path / "out"]
    answer, notes = eocat.run("produce", *items, *fixed, code=code)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (access["AWS_SECRET_ACCESS_KEY"], access["AWS_ACCESS_KEY_ID"]):
        assert secret not in answer + notes
        assert secret.encode() not in written
    return notes


def test_assets_are_fetched_held_against_their_checksums_and_produced(
    access: dict[str, str], bands: Path, tmp_path: Path
) -> None:
    """Beside an Item with a wrong checksum and one with a file that is not there, which are refused."""
    items = [
        write_item(tmp_path / "good.json", bands),
        write_item(tmp_path / "changed.json", bands, B03={"file:checksum": "1220" + "0" * 64}),
        write_item(tmp_path / "missing.json", bands, B08={"href": "s3://scenes/2024/none.tif"}),
    ]
    notes = produce(tmp_path, access, items, code=60)
    errors = [line for line in notes.splitlines() if not line.startswith("hint: ")]
    assert errors == [
        "eocat: error: asset B03, T33_B03.tif, is not the file whose checksum its Item states",
        "eocat: error: s3://scenes/2024/none.tif cannot be fetched: it is not there",
        "2 of 3 scenes could not be used",
    ]
    assert notes.count("hint: ") == 2
    assert [path.name for path in tmp_path.glob("out/c/[!.]*/")] == ["good"]
    envelope = json.loads((tmp_path / "out" / "c" / "good" / "attestation.jsonl").read_bytes())
    (source,) = json.loads(base64.b64decode(envelope["payload"]))["predicate"]["sources"]
    assert {file["name"].rpartition("/")[2]: file["sha256"] for file in source["files"]} == {
        path.name: digest(path) for path in (*bands.iterdir(), items[0])
    }


@pytest.mark.parametrize(
    "wrong", [{"AWS_SECRET_ACCESS_KEY": "x" * 40}, {"AWS_SKIP_SIGNATURE": "true"}], ids=["wrong", "none"]
)
def test_refused_credentials_are_a_sentence(
    access: dict[str, str], bands: Path, tmp_path: Path, wrong: dict[str, str]
) -> None:
    notes = produce(tmp_path, access | wrong, [write_item(tmp_path / "good.json", bands)], code=60)
    assert re.fullmatch(
        r"eocat: error: s3://scenes/2024/T33_B02\.tif cannot be fetched: access is denied\n"
        r"hint: for S3: AWS_ACCESS_KEY_ID [^\n]+\n1 of 1 scenes could not be used\n",
        notes,
    )
    assert not (tmp_path / "out").exists()
    assert not [path for path in (tmp_path / "home" / "cache").rglob("*") if path.is_file()]
