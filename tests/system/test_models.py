"""`aos up` with several models and an adapter, in memory for fewer than all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from google.protobuf.json_format import MessageToJson
from prometheus_client.parser import text_string_to_metric_families

from aos.credentials import Credentials
from aos.operator.llama import Lora, loaded
from aos.operator.modes import Mode
from aos.operator.pool import MEBIBYTE
from aos.operator.shelf import Shelf
from aos.settings import bundled_model
from tests.cli.conftest import run_aos
from tests.operator.loras import write_lora
from tests.operator.orders import asking
from tests.operator.test_replay import bundle
from tests.operator.weights import write_model

SECONDS = 60


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """Options for the demo model, a tiny one, and an adapter over that."""
    tiny, lora = write_model(tmp_path / "tiny.gguf"), write_lora(tmp_path / "lora.gguf")
    return ("--model", f"demo={bundled_model()}", "--model", str(tiny), "--adapter", f"tuned=tiny:{lora}:0.5")


class TestModels:
    async def test_all_are_answered_by_memory_for_one(self, up, files, tmp_path):
        """Alternate requests for models that take turns in memory are all answered, each model by itself."""
        demo = Shelf(slots=4).source("demo", bundled_model())
        demo.measure()
        enough = -(-sum(demo.parts(Mode.EXACT).values()) // MEBIBYTE)  # for the largest, and none beside it
        async with up(*files, "--memory", str(enough), "--slots", "4") as running:
            admin = {"authorization": f"Bearer {Credentials.load(tmp_path / 'data').admin_token}"}
            mine = {"authorization": f"Bearer {running.ready['token']}"}
            async with httpx.AsyncClient(base_url=running.ready["url"], headers=mine, timeout=SECONDS) as rest:

                async def ask(model: str) -> str:
                    body = {"model": model, "prompt": "What is AI?", "max_tokens": 12, "temperature": 0}
                    reply = await rest.post("/v1/completions", json=body)
                    assert reply.status_code == 200, reply.text
                    return reply.json()["choices"][0]["text"]

                names = ["demo", "tiny", "tuned"]
                apart = [await ask(name) for name in names]
                together = await asyncio.gather(*(ask(name) for name in names * 3))
                listed = (await rest.get("/v1/models")).json()["data"]
                text = (await rest.get("/metrics", headers=admin)).text
        loads = {
            sample.labels["model_name"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "aos_model_load_seconds_count"
        }
        assert running.ready["models"] == names
        assert {one["id"] for one in listed} == set(names)
        assert together == apart * 3
        assert len(set(apart)) == 3
        assert loads["demo"] >= 2, "it was unloaded for the others, and came back"

    async def test_an_adapters_answer_is_verified(self, tmp_path):
        """`aos verify` runs an answer again on base and adapter, at the scale that it was given with."""
        tiny, lora = write_model(tmp_path / "tiny.gguf"), write_lora(tmp_path / "lora.gguf")
        async with loaded(tiny, lora=Lora(lora, 0.5)) as model:
            (tmp_path / "receipt.json").write_text(MessageToJson(await bundle(model, asking(max_tokens=5))))
        verify = ("verify", str(tmp_path / "receipt.json"), "--adapter")
        good = await run_aos(*verify, f"{lora}:0.5", "--model", str(tiny))
        other = await run_aos(*verify, f"{lora}", "--model", str(tiny))
        alone = await run_aos(*verify, f"{lora}")

        assert "run again, are the same" in good.out
        assert "these weights are" in other.out
        assert "--adapter is over the weights that --model names" in alone.err

    async def test_a_model_that_never_fits(self, files, tmp_path):
        """The network says at once which model needs how much, and does not start."""
        result = await run_aos("up", "--data", str(tmp_path / "data"), "--port", "0", *files, "--memory", "5")

        assert result.code == 1
        assert "demo needs" in result.err
        assert "may take 5 MiB" in result.err

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--adapter", "a=nobody:x.gguf"), "BASE one of aos-demo"),
            (("--model", "a=x.gguf", "--model", "a=y.gguf"), "'a' is offered twice"),
            (("--model", "ä=x.gguf"), "a name must have"),
            (("--gpu-layers", "-2"), "gpu-layers: must be from -1"),
            (("--tensor-split", "1,x"), "tensor-split: must be numbers"),
            (("--model", "none.gguf"), "there is no file none.gguf"),
        ],
    )
    async def test_options_that_cannot_be(self, tmp_path, options, words):
        """What is wrong is named before anything starts."""
        result = await run_aos("up", "--data", str(tmp_path / "data"), "--port", "0", *options)

        assert result.code != 0
        assert words in result.err
