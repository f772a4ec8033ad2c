"""What `aos demo` shows: one job over REST, from the question to the checked receipt."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import httpx
from google.protobuf.json_format import Parse
from rich.markup import escape

from aos.cli.main import OUT
from aos.cli.verify import show, unchecked
from aos.settings import bundled_model
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.verification.receipts import check_bundle

if TYPE_CHECKING:
    from aos.up import Network

TIMEOUT = httpx.Timeout(10, read=120)


async def show_demo(network: Network, question: str) -> None:
    """Ask over REST, print the stream, the job, the receipt and its check, and the lines to go on with."""
    kept = network.credentials
    headers = {"authorization": f"Bearer {kept.token}"}
    OUT.rule("[bold]a project, and its money")
    OUT.print(f"{kept.project} may submit; token {kept.token[:6]}…")
    async with httpx.AsyncClient(base_url=kept.url, headers=headers, timeout=TIMEOUT) as rest:
        before = (await rest.get("/v1/accounts/-")).raise_for_status().json()
        OUT.print(f"{before['name']}: {before['available']} neurons available")

        OUT.rule("[bold]POST /v1/chat/completions")
        OUT.print(f"[bold]{question}[/bold]")
        job = await _stream(rest, network.model, question)

        OUT.rule(f"[bold]GET /v1/{job[:17]}…")
        record = (await rest.get(f"/v1/{job}")).raise_for_status().json()
        usage = record["outcome"]["usage"]
        OUT.print(f"{record['state']}, operator {record['operator']}")
        OUT.print(f"{usage['prompt_tokens']} tokens in, {usage['completion_tokens']} tokens out, clock {record['clock']['counts']}")

        OUT.rule(f"[bold]GET /v1/{job[:17]}…/receipt")
        text = (await rest.get(f"/v1/{job}/receipt")).raise_for_status().text
        receipt = json.loads(text)["receipt"]
        for name in ("profile", "parameters", "price", "model_digest", "output_digest", "signature"):
            OUT.print(f"[dim]{name:15}[/dim]{escape(str(receipt[name]))}")

        OUT.rule("[bold]aos verify")
        bundle = Parse(text, ReceiptBundle())
        if network.model == bundled_model().stem:
            from aos.operator.replay import replay

            rerun = await replay(bundle, bundled_model())
        else:
            rerun = unchecked("that the model really gives this answer", "see `aos verify --model`")
        good = show([*check_bundle(bundle), rerun], OUT)
        after = (await rest.get("/v1/accounts/-")).raise_for_status().json()
        spent = int(before["available"]) - int(after["available"])
        OUT.print(f"{after['name']}: {spent} neurons spent, {after['held']} held; the receipt is the invoice line")
    OUT.rule("[bold]go on")
    OUT.print(lines(network), markup=False)
    if not good or str(spent) != receipt["price"]:
        sys.exit("the demo's receipt does not hold")


async def _stream(rest: httpx.AsyncClient, model: str, question: str) -> str:
    """Print the answer as it comes; return the job's name."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": True, "temperature": 0}
    job = ""
    async with rest.stream("POST", "/v1/chat/completions", json=body) as reply:
        if reply.is_error:
            sys.exit(f"HTTP {reply.status_code}: {(await reply.aread()).decode()}")
        async for line in reply.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                sys.exit(f"the stream failed: {chunk['error']['message']}")
            job = chunk.get("aos", {}).get("job", job)
            for choice in chunk["choices"]:
                sys.stdout.write(choice["delta"].get("content") or "")
                sys.stdout.flush()
    sys.stdout.write("\n")
    return job


def lines(network: Network) -> str:
    """Return what to type next."""
    body = json.dumps({"model": network.model, "stream": True, "messages": [{"role": "user", "content": "What is a receipt?"}]})
    return (
        "aos up                    # keep it running; it prints its own token\n"
        "aos chat                  # in another terminal\n"
        'curl -N localhost:8080/v1/chat/completions -H "authorization: Bearer $TOKEN" \\\n'
        f"  -d '{body}'\n"
        'curl localhost:8080/api/job/submit -d \'{"from": "demo", "verify": "\'$TOKEN\'",\n'
        f'  "job": {{"tag": "opml", "model": "{network.model}", "prompt": "What is AI?", "params": {{"max_tokens": 64}}}}}}\''
    )
