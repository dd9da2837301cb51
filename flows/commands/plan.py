"""`mcgurk plan`: what build would do, and why, without doing it."""

import json
import shlex
from dataclasses import dataclass

from flows.arguments import Json, written
from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.builds.plan import is_complete, plan_all, require_parts
from flows.commands.announce import settings_text
from flows.commands.text import plan_text
from tasks.transport import templates

EXAMPLE = "mcgurk plan --root data"
IS_LONG = False


@dataclass(frozen=True)
class Options(BuildOptions):
    """The options of the build that it predicts."""

    json: Json = False


def run(options: Options) -> int:
    """Prints the plan, and, if there is something to do, the command that carries it out."""
    pipeline = resolve(options)
    if not options.json:
        print(settings_text(pipeline), flush=True)
    plans = plan_all(pipeline)
    require_parts(pipeline, plans)
    if options.json:
        print(json.dumps({name: plan.counts() for name, plan in plans.items()}))
        return 0
    print(plan_text(plans))
    if not is_complete(pipeline, plans):
        print(f"\nnext: {shlex.join(['mcgurk', 'build', *map(templates.shown, written(options))])}")
    return 0
