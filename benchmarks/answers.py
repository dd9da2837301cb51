"""`python -m benchmarks.answers [--count N]`: answers of hosts, varied and broken, and what each is taken for.

*Varied* answers differ from those of `tests/support/raw_answers.py` in what means nothing: headers that nobody knows,
names in other cases, another order. Their class must stay. *Broken* ones have bytes of head or body changed, cut,
doubled or blown up: no class is right for them, but nothing may stop, and memory has a bound.
"""

import argparse
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import timecode
from raw_answers import OK, Answer, answers, sending
from small_roots import RECIPE

from schemas.outcome import ItemError, Transient
from tasks import sources
from tasks.transport.hatches import Hatches
from tasks.transport.policy import Access

VARIED = 0.6  # of all answers
HEAD_END = b"\r\n\r\n"
UNKNOWN = "unknown"
NUMBERS = (b"0", b"-1", b"1e400", b"99999999999999999999", b"NaN", b"\xd9\xa3")


@dataclass(frozen=True)
class Fuzzed:
    """An answer, how it was made, and the class that it must get; None where any is right."""

    kind: str
    content: bytes
    reason: str | None


def _varied(rng: random.Random, content: bytes) -> bytes:
    head, mark, body = content.partition(HEAD_END)
    first, *headers = head.split(b"\r\n")
    if not mark or not first.startswith(b"HTTP/1.1 ") or any(one[:1] in b" \t" for one in headers):
        return content
    junk = [b"X-%s: %s" % (_word(rng), _word(rng)) for _ in range(rng.randrange(5))]
    both = [*(_in_another_case(rng, one) for one in headers), *junk]
    rng.shuffle(both)
    return b"\r\n".join([first, *both]) + mark + body


def _word(rng: random.Random) -> bytes:
    return rng.randbytes(6).hex().encode()


def _in_another_case(rng: random.Random, header: bytes) -> bytes:
    name, colon, value = header.partition(b":")
    return rng.choice((name.lower(), name.upper(), name)) + colon + value


def _flipped(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        if changed:
            changed[rng.randrange(min(len(changed), 400))] = rng.randrange(256)
    return bytes(changed)


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _doubled(rng: random.Random, content: bytes) -> bytes:
    begin = rng.randrange(len(content) + 1)
    piece = content[begin : begin + rng.randrange(1, 200)]
    return content[:begin] + piece * rng.randrange(2, 50) + content[begin:]


def _of_numbers(rng: random.Random, content: bytes) -> bytes:
    first, line, rest = content.partition(b"\r\n")  # with another status it would be another answer
    changed = re.sub(rb"\d+", lambda m: rng.choice((m[0], *NUMBERS)), rest[:3000])
    return first + line + changed + rest[3000:]


BREAKERS: Mapping[str, Callable[[random.Random, bytes], bytes]] = {
    "bytes changed": _flipped, "cut": _cut, "doubled": _doubled, "other numbers": _of_numbers,
}  # fmt: skip


def fuzzed(told: Mapping[str, Answer], count: int, seed: int) -> Iterator[tuple[str, Fuzzed]]:
    """(name, answer) of so many answers."""
    rng = random.Random(seed)
    names = list(told)
    for number in range(count):
        one = told[names[number % len(names)] if number < VARIED * count else rng.choice(names)]
        if number < VARIED * count:
            yield f"v{number}", Fuzzed("varied", _varied(rng, one.content), one.reason)
        else:
            kind = rng.choice(list(BREAKERS))
            yield f"b{number}", Fuzzed(kind, BREAKERS[kind](rng, one.content), None)


def classes(sent: Mapping[str, Fuzzed], told: Mapping[str, Answer], folder: Path) -> dict[str, str]:
    """What each answer is taken for: OK, a class of failure, or another exception's name. Redirects lead to `told`."""
    found = {}
    contents = {name: one.content for name, one in (*told.items(), *sent.items())}
    with (
        sending(contents) as address,
        sources.open_source(f"{address}/{{video_id}}.mp4", folder, Access(hatches=Hatches())) as fetching,
    ):
        for name in sent:
            path = folder / name
            try:
                fetching(name, path)
                found[name] = OK
            except (ItemError, Transient) as error:
                found[name] = error.reason
            except Exception as error:  # a build catches it at its one place, as `unknown`
                found[name] = f"{UNKNOWN}, {type(error).__name__}"
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
    return found


def main() -> None:
    """Prints a table of kinds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = timecode.write(folder / "clip.mp4", RECIPE).read_bytes()
        told = answers(clip)
        sent = dict(fuzzed(told, asked.count, asked.seed))
        found = classes(sent, told, folder)
    print("| kind | answers | right class | unknown | most frequent |\n|---|---:|---:|---:|---|")
    for kind in ("varied", *BREAKERS):
        names = [name for name, one in sent.items() if one.kind == kind]
        print(_line(kind, names, sent, found))
    wrong = Counter((sent[n].reason, found[n]) for n in sent if sent[n].reason not in (None, found[n]))
    print(f"wrong: {dict(wrong)}; other exceptions: {Counter(one for one in found.values() if ', ' in one)}")
    own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    limited_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    seconds = time.monotonic() - began
    print(f"most memory: this process {own_mb:.0f} MB, its limited one {limited_mb:.0f} MB; {seconds:.0f} s")


def _line(kind: str, names: list[str], sent: Mapping[str, Fuzzed], found: Mapping[str, str]) -> str:
    labelled = [name for name in names if sent[name].reason is not None]
    right = sum(found[name] == sent[name].reason for name in labelled)
    share = f"{100 * right / len(labelled):.1f} %" if labelled else ""
    unknown = sum(found[name].startswith(UNKNOWN) for name in names)
    common = ", ".join(f"{reason} {n}" for reason, n in Counter(found[name] for name in names).most_common(4))
    return f"| {kind} | {len(names)} | {share} | {unknown} | {common} |"


if __name__ == "__main__":
    main()
