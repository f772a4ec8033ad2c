"""What controllers cost: their masks, beside llguidance's and llama.cpp's; their part in a batch; their setup and forks.

    python -m bench.controllers [--masks] [--batches] [--vocabularies 32k 152k] [--sizes 15M 110M] [--at 1 8 32] [--rounds 3]
                                [--tokens 48]

Vocabularies of 32 000 and of 152 000 made-up words, random-weight Q8_0 models, one thread. Masks: one branch, at each step a
token drawn at random of those allowed; the process's CPU time, median, and in brackets the slowest but 5 %. Batches: tokens a
second of the engine with all its answers controlled, constrained by llguidance, or free, in turn, round after round, and of the
same batch drawn through llama.cpp's own grammar sampler, GBNF, with the model's decode and nothing else of the engine; then what
free answers lose when as many controlled ones run in their batch, against as many free ones, and what the host costs a sequence
and step beyond a free one.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import hashlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from queue import SimpleQueue

import llama_cpp as c
import numpy as np
from llguidance import LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from aos.operator.batch import Row
from aos.operator.constraints import tokeniser
from aos.operator.control_session import Session
from aos.operator.controllers import Applied, Decision, Vocabulary
from aos.operator.engine import Engine
from aos.operator.llama import LlamaModel, load
from aos.operator.steering import Steering, opening
from aos.operator.wasm_programs import Controllers
from aos.order import with_defaults
from aos.settings import bundled_controllers
from aos.v1.types_pb2 import Constraint, Control, Order, Sampling
from bench.weights import SIZES, SPECIAL, write

CONTEXT = 256
VOCABULARIES = {"32k": 32_000, "152k": 152_000}
STEPS = 60
EVERY = Path(__file__).parents[1] / "tests" / "controllers" / "programs" / "exactly-c.wasm"
"""Allows every token but the end, so many times: nothing but the host's own work."""

TEXT = "[A-Za-z ,.]{900}"
OBJECTS = r'\[(\{"name": "[A-Za-z ]{1,40}", "age": [0-9]{1,3}\}, ?){12}\]'
SCHEMA = """{"type": "array", "minItems": 12, "items": {"type": "object", "additionalProperties": false,
"required": ["name", "age"], "properties": {"name": {"type": "string", "pattern": "^[A-Za-z ]{1,40}$"},
"age": {"type": "integer", "minimum": 0, "maximum": 999}}}}"""
YACC = r"""%start program
%%
program : statement | program statement ;
statement : IDENTIFIER "=" sum ";" | "if" "(" sum ")" statement "else" statement | "return" sum ";" | "{" program "}" ;
sum : product | sum "+" product | sum "-" product ;
product : value | product "*" value ;
value : IDENTIFIER | CONSTANT | "(" sum ")" | IDENTIFIER "(" sum ")" ;
IDENTIFIER : "/[A-Za-z_][A-Za-z_0-9]*/" ;
CONSTANT : "/[0-9]+/" ;
SKIP : "/[ \n]+/" ;
"""
LARK = r"""start: statement+
statement: IDENTIFIER "=" sum ";" | "if" "(" sum ")" statement "else" statement | "return" sum ";" | "{" statement+ "}"
sum: product | sum "+" product | sum "-" product
product: value | product "*" value
value: IDENTIFIER | CONSTANT | "(" sum ")" | IDENTIFIER "(" sum ")"
IDENTIFIER: /[A-Za-z_][A-Za-z_0-9]*/
CONSTANT: /[0-9]+/
%ignore /[ \n]+/
"""
GBNF = {
    "regex": "root ::= [A-Za-z ,.]{900}",
    "JSON": r"""root ::= "[" one{12} "]"
one ::= "{\"name\": \"" [A-Za-z ]{1,40} "\", \"age\": " [0-9]{1,3} "}, "?""",
    "yacc": r"""root ::= ws statement+
statement ::= (id "=" ws sum ";" | choice | "return" ws sum ";" | "{" ws statement+ "}") ws
choice ::= "if" ws "(" ws sum ")" ws statement "else" ws statement
sum ::= product (("+" | "-") ws product)*
product ::= value ("*" ws value)*
value ::= (id | [0-9]+ | "(" ws sum ")" | id "(" ws sum ")") ws
id ::= [A-Za-z_] [A-Za-z_0-9]* ws
ws ::= [ \n]*""",
}  # fmt: skip


def program(form: str, tokens: int) -> str:
    """Return the controller's program that draws so many tokens of a form."""
    option = {"regex": f"regex: /{TEXT}/", "JSON": f"regex: /{OBJECTS}/", "yacc": f"yacc: String.raw`{YACC}`"}[form]
    return f"async function main() {{ await gen({{ {option}, maxTokens: {tokens} }}) }}\nsetLogLevel(0)\nstart(main)"


def grammar(form: str) -> str:
    """Return the form as llguidance reads it."""
    if form == "regex":
        return LLMatcher.grammar_from_regex(TEXT)
    if form == "JSON":
        return LLMatcher.grammar_from_json_schema(SCHEMA, defaults={"whitespace_flexible": False})
    return LLMatcher.grammar_from_lark(LARK)


def constraint(form: str) -> Constraint:
    """Return the form as an order has it."""
    if form == "regex":
        return Constraint(regex=TEXT)
    return Constraint(json_schema=SCHEMA) if form == "JSON" else Constraint(grammar=LARK)


def words(count: int) -> list[str]:
    """Return made-up words, as a trained vocabulary has them: with and without a blank before, capitals, digits, signs."""
    random, parts = np.random.default_rng(11), list("aeioubcdfghjklmnprstvwz")
    parts += ["en", "er", "in", "on", "al", "st", "th", "ch", "sh", "br", "ing", "tion", "ment", "ly", "ed", "qu"]
    made: dict[str, None] = dict.fromkeys([*map(str, range(10, 1000)), "==", "!=", "();", "){", '":', '",', "Ġ=", "Ġ(", "Ġ{"])
    while len(made) < count:
        word = "".join(random.choice(parts, random.integers(1, 5)))
        kind = random.random()
        made["Ġ" + word if kind < 0.6 else word.capitalize() if kind < 0.7 else "Ġ" + word.capitalize() if kind < 0.8 else word] = (
            None
        )
    return [one for one in made if len(one) > 1][:count]


def steps(vocabulary: int, mask_of: Callable[[], np.ndarray], take: Callable[[int], None]) -> list[float]:
    """Return what each step's mask took, in milliseconds of the process; ``mask_of`` gives packed bits, ``take`` is not counted."""
    random, took = np.random.default_rng(3), list[float]()
    gc.collect()
    for _ in range(STEPS):
        begun = time.process_time_ns()
        mask = mask_of()
        took.append((time.process_time_ns() - begun) / 1e6)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[:vocabulary])
        allowed = allowed[allowed >= len(SPECIAL)]
        if not len(allowed):
            break
        take(int(random.choice(allowed)))
    return took[1:]  # the first reads the vocabulary


class Asked:
    """A session, asked one step at a time."""

    def __init__(self, session: Session) -> None:
        self.session, self._told = session, Applied()
        session.setup([5])

    def decide(self) -> Decision:
        """Return what it decides."""
        came: SimpleQueue[Decision] = SimpleQueue()
        self.session.step([(0, self._told, (0,))], lambda decided: came.put(decided[0][1]))
        return came.get(timeout=60)

    def mask(self) -> np.ndarray:
        """Return the mask that it decides on."""
        decision = self.decide()
        if decision.error or not decision.branches or decision.branches[0].mask is None:
            raise SystemExit(f"no mask: {decision}")
        return decision.branches[0].mask

    def take(self, token: int) -> None:
        """Tell it next time that this was drawn."""
        self._told = Applied(0, (token,), token)


class Programs:
    """Controllers, and what opens them."""

    def __init__(self, folder: Path) -> None:
        self.controllers = Controllers(folder / "compiled")
        modules = [(bundled_controllers() / "jsctrl.wasm").read_bytes(), EVERY.read_bytes()]
        self.modules = {hashlib.sha256(one).digest(): one for one in modules}
        self.jsctrl, self.every = self.modules

    async def read(self, digest: bytes) -> bytes:
        """Return a module."""
        return self.modules[digest]

    async def open(self, digest: bytes, argument: str, vocabulary: Vocabulary) -> Session:
        """Return a session."""
        made = await self.controllers.program(digest, lambda: self.read(digest))
        return await self.controllers.session(made, argument, vocabulary, patience=20)


def masks(model: LlamaModel, vocabulary: Vocabulary, programs: Programs) -> Iterator[tuple[str, str, list[float]]]:
    """Yield form, way and milliseconds of each step."""
    guided = tokeniser("bench", model)
    bits = allocate_token_bitmask(1, model.vocabulary)
    data = (c.llama_token_data * model.vocabulary)()
    for form in ("regex", "JSON", "yacc"):
        asked = Asked(asyncio.run(programs.open(programs.jsctrl, program(form, 1000), vocabulary)))
        yield form, "controller", steps(model.vocabulary, asked.mask, asked.take)
        asked.session.close()
        matcher = LLMatcher(guided, grammar(form))

        def filled(matcher: LLMatcher = matcher) -> np.ndarray:
            fill_next_token_bitmask(matcher, bits)
            return bits[0].view(np.uint32)

        yield form, "llguidance", steps(model.vocabulary, filled, matcher.consume_token)
        sampler = c.llama_sampler_init_grammar(model.weights._vocab, GBNF[form].encode(), b"root")
        whole = np.ctypeslib.as_array(ctypes.cast(data, ctypes.POINTER(ctypes.c_int32)), (model.vocabulary, 3))

        def applied(sampler: object = sampler, whole: np.ndarray = whole) -> np.ndarray:
            whole[:, 0], whole[:, 1] = np.arange(model.vocabulary), 0
            candidates = c.llama_token_data_array(data, model.vocabulary, -1, False)
            c.llama_sampler_apply(sampler, ctypes.byref(candidates))
            return np.packbits(whole[:, 1].view(np.float32) == 0, bitorder="little")

        yield form, "GBNF", steps(model.vocabulary, applied, lambda token, sampler=sampler: c.llama_sampler_accept(sampler, token))
        c.llama_sampler_free(sampler)


def setups(vocabulary: Vocabulary, programs: Programs) -> tuple[float, float]:
    """Return the milliseconds of setting a known controller up, and of forking one that has read its vocabulary."""
    asked, setup, fork = None, list[float](), list[float]()
    for _ in range(12):
        session = asyncio.run(programs.open(programs.jsctrl, program("JSON", 100), vocabulary))
        begun = time.perf_counter()
        asked = Asked(session)
        setup.append(1000 * (time.perf_counter() - begun))
        asked.mask()
        begun = time.perf_counter()
        session._fork(0, [1])
        fork.append(1000 * (time.perf_counter() - begun))
        session.close()
    return statistics.median(setup[1:]), statistics.median(fork)


async def answers(engine: Engine, programs: Programs, kinds: list[str], tokens: int) -> dict[str, float]:
    """Return tokens per second of each kind of answer, all at once; and seconds of CPU, of the process and the engine's thread."""
    steering = Steering(opening(programs.read, programs.controllers))

    async def one(number: int, kind: str) -> int:
        order = Order(model="m", prompt=f"{chr(33 + number)}" + "x" * 31, sampling=Sampling(max_tokens=tokens))
        if kind == "every":
            order.control.CopyFrom(Control(controller=programs.every, argument=str(tokens)))
        elif kind in ("regex", "JSON", "yacc"):
            order.control.CopyFrom(Control(controller=programs.jsctrl, argument=program(kind, tokens)))
        elif kind == "llguidance":
            order.constraint.CopyFrom(constraint("regex"))
        drawn = 0
        async with aclosing(engine.generate(with_defaults(order, job=bytes(32)), steering=steering)) as pieces:
            async for piece in pieces:
                drawn = len(piece.tokens) if hasattr(piece, "reason") else drawn
        if drawn < tokens - 1:
            raise SystemExit(f"{kind}: {drawn} tokens")
        ended[kind] = time.perf_counter()
        return drawn

    thread = time.pthread_getcpuclockid(engine._thread.ident or 0)
    begun, cpu, inside, ended = time.perf_counter(), time.process_time(), time.clock_gettime(thread), dict[str, float]()
    counts = await asyncio.gather(*(one(number, kind) for number, kind in enumerate(kinds)))
    spent = {"cpu": time.process_time() - cpu, "thread": time.clock_gettime(thread) - inside}
    return spent | {
        kind: sum(n for n, k in zip(counts, kinds, strict=True) if k == kind) / (at - begun) for kind, at in ended.items()
    }


def grammar_batch(model: LlamaModel, form: str, at: int, tokens: int) -> tuple[float, float]:
    """Return tokens per second of so many answers through llama.cpp's GBNF, greedily, and seconds of CPU of the process."""
    samplers = [c.llama_sampler_init_grammar(model.weights._vocab, GBNF[form].encode(), b"root") for _ in range(at)]
    data = (c.llama_token_data * model.vocabulary)()
    whole = np.ctypeslib.as_array(ctypes.cast(data, ctypes.POINTER(ctypes.c_int32)), (model.vocabulary, 3))
    model.clear()
    begun, cpu = time.perf_counter(), time.process_time()
    drawn = [len(SPECIAL)] * at
    for position in range(tokens):
        outputs = model.decode([Row(slot, slot, position, [token], draws=True) for slot, token in enumerate(drawn)])
        for slot, (sampler, logits) in enumerate(zip(samplers, outputs, strict=True)):
            whole[:, 0], whole[:, 1] = np.arange(model.vocabulary), logits.view(np.int32)
            candidates = c.llama_token_data_array(data, model.vocabulary, -1, False)
            c.llama_sampler_apply(sampler, ctypes.byref(candidates))
            best = int(np.argmax(whole[:, 1].view(np.float32)))
            drawn[slot] = int(whole[best, 0])
            c.llama_sampler_accept(sampler, drawn[slot])
    seconds, spent = time.perf_counter() - begun, time.process_time() - cpu
    for sampler in samplers:
        c.llama_sampler_free(sampler)
    model.clear()
    return at * tokens / seconds, spent


def show_grammars(model: LlamaModel, at: int, given: argparse.Namespace) -> None:
    """Print what llama.cpp's grammars cost a batch; they are slow, so one round does."""
    for form in GBNF:
        speed, spent = grammar_batch(model, form, at, given.grammar_tokens)
        cpu = 1000 * spent / (at * given.grammar_tokens)
        print(f"     {form:>10} by GBNF: {speed:.0f} tokens/s, {cpu:.2f} ms of CPU a token", flush=True)


async def batches(model: LlamaModel, programs: Programs, given: argparse.Namespace) -> None:
    """Print what controllers cost in batches."""
    async with Engine("m", model, tenant_waiting=100) as engine:
        for at in given.at:
            found: dict[str, list[tuple[float, float]]] = {}
            for turn in range(given.rounds + 1):
                for kind in ("free", "every", "regex", "JSON", "yacc", "llguidance"):
                    speed = await answers(engine, programs, [kind] * at, given.tokens)
                    if turn:  # the first compiles and reads
                        found.setdefault(kind, []).append((1 / speed[kind], 1000 * speed["cpu"] / (at * given.tokens)))
            free = [statistics.median(column) for column in zip(*found.pop("free"), strict=True)]
            print(f"  {at:2} at once: free {1 / free[0]:.0f} tokens/s, {free[1]:.2f} ms of CPU a token; a token takes of that:")
            for kind, values in found.items():
                clock, cpu = (statistics.median(column) for column in zip(*values, strict=True))
                print(
                    f"     {kind:>10} {clock / free[0]:.2f} by the clock, {cpu / free[1]:.2f} of CPU ({cpu - free[1]:+.2f} ms)",
                    flush=True,
                )
            # the engine is idle: what is in the model's memory is nobody's
            await asyncio.to_thread(show_grammars, model, at, given)
        beside, thread, host, inside = list[float](), list[float](), list[float](), list[float]()
        for turn in range(given.rounds + 3):
            free = await answers(engine, programs, ["free"] * 10, given.tokens)
            every = await answers(engine, programs, ["every"] * 10, given.tokens)
            mixed = await answers(engine, programs, ["free"] * 5 + ["regex"] * 5, given.tokens)
            if turn:
                beside.append(2 * mixed["free"] / free["free"])
                thread.append(free["thread"] / mixed["thread"])
                for what, values in (("cpu", host), ("thread", inside)):
                    values.append(1000 * (every[what] - free[what]) / (10 * given.tokens))
        print(
            f"  5 free answers beside 5 with a regex: {statistics.median(beside):.2f} of their tokens/s beside 5 free ones;",
            end=" ",
        )
        print(f"by the CPU time of the engine's thread, {statistics.median(thread):.2f}")
        print(f"  host, a sequence and step, 10 at once, beyond free: {statistics.median(host):.2f} ms of CPU,", end=" ")
        print(f"of them {statistics.median(inside):.2f} in the engine's thread", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", action="store_true", help="masks, setups and forks alone")
    parser.add_argument("--batches", action="store_true", help="batches alone")
    parser.add_argument("--vocabularies", nargs="+", choices=VOCABULARIES, default=list(VOCABULARIES))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["15M"])
    parser.add_argument("--at", nargs="*", type=int, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--grammar-tokens", type=int, default=8, help="of each answer by GBNF, which is slow")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aos-bench-") as name:
        folder = Path(name)
        programs = Programs(folder)
        for label, size in itertools.product(given.vocabularies, given.sizes):
            count = VOCABULARIES[label]
            path = write(folder, SIZES[size], CONTEXT, words=words(count - 256 - len(SPECIAL)))
            model = load(path, slots=max([10, *given.at]), context=CONTEXT, threads=1)
            vocabulary = Vocabulary(model.digest, model.vocabulary, model.end, model.piece, model.tokens_in)
            print(f"{label}, {size}", flush=True)
            if not given.batches:
                for form, way, took in masks(model, vocabulary, programs):
                    late = np.percentile(took, 95) if took else 0
                    print(f"  {form:>5} {way:>10}: {statistics.median(took):7.3f} ms ({late:.3f}), {len(took)} steps", flush=True)
                print("  setup {:.1f} ms, fork {:.1f} ms".format(*setups(vocabulary, programs)), flush=True)
            if not given.masks:
                asyncio.run(batches(model, programs, given))
            model.close()
        programs.controllers.close()


if __name__ == "__main__":
    main()
