"""`mcgurk plan`: what build would do, and why, without doing it."""

import json
import shlex
from dataclasses import dataclass

from flows.arguments import Json, written
from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.builds.plan import plan_all
from flows.commands.announce import settings_text
from flows.commands.text import plan_text
from tasks.transport import templates

EXAMPLE = "mcgurk plan --root data"
IS_LONG = False


@dataclass(frozen=True)
class Options(BuildOptions):
    """Those of the build that it foresees."""

    json: Json = False


def run(options: Options) -> int:
    """Prints the plan, and the command that carries it out."""
    pipeline = resolve(options)
    if options.json:
        print(json.dumps({name: plan.counts() for name, plan in plan_all(pipeline).items()}))
        return 0
    print(settings_text(pipeline), flush=True)
    print(plan_text(plan_all(pipeline)))
    print(f"\nnext: {shlex.join(['mcgurk', 'build', *map(templates.shown, written(options))])}")
    return 0
