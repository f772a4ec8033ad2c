"""A model server that computes nothing: streams so many tokens, one event each, at a given pace. ``python -m bench.told [PORT]``.

Answers `POST …/chat/completions` and `…/completions`; `max_tokens` is how many, `temperature` how many milliseconds apart.
"""

from __future__ import annotations

import asyncio
import json
import sys

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def event(said: object) -> bytes:
    data = b"data: " + (said.encode() if isinstance(said, str) else json.dumps(said).encode()) + b"\n\n"
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
            try:
                body = json.loads(await reader.readexactly(length) or b"{}")
            except ValueError:
                said = b'{"error": {"message": "the body is no JSON"}}'
                writer.write(f"HTTP/1.1 400 Bad Request\r\ncontent-length: {len(said)}\r\n\r\n".encode() + said)
                continue
            if head.startswith(b"GET"):
                said = json.dumps({"object": "list", "data": [{"id": "told", "object": "model", "max_model_len": 8192}]}).encode()
                writer.write(
                    f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(said)}\r\n\r\n".encode() + said
                )
                continue
            await answer(writer, body, chat=b"/chat/" in head.split(b"\r\n")[0])
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def answer(writer: asyncio.StreamWriter, body: dict[str, object], *, chat: bool) -> None:
    count, pace = int(str(body.get("max_tokens") or 16)), float(str(body.get("temperature") or 0)) / 1e3
    writer.write(HEAD)
    for number in range(count + 1):
        last = number == count
        word = f"w{number % 1000:03d} "  # there are proxies that end an answer that repeats itself
        text = {"text": "" if last else word} if not chat else {"delta": {} if last else {"content": word}}
        kind = "chat.completion.chunk" if chat else "text_completion"
        choice = {"index": 0, **text, "finish_reason": "length" if last else None}
        writer.write(event({"id": "cmpl-1", "object": kind, "created": 1, "model": "told", "choices": [choice]}))
        await writer.drain()
        await asyncio.sleep(pace if not last else 0)
    usage = {"prompt_tokens": 8, "completion_tokens": count, "total_tokens": count + 8}
    done = {"id": "cmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "told", "choices": [], "usage": usage}
    writer.write(event(done) + event("[DONE]") + b"0\r\n\r\n")
    await writer.drain()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
