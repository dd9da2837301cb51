"""`mcgurk recheck`: asks the source whether it still has clips that we hold; marks and reports those that are gone."""

from flows.builds.pipeline import resolve_indexed
from flows.builds.recheck import RecheckOptions as Options
from flows.builds.recheck import is_empty
from flows.commands.announce import command
from flows.commands.logs import quieted
from flows.services.servers import prefect_api
from tasks.acquisition.recheck import Rechecked

EXAMPLE = "mcgurk recheck --root data --drop-removed"
IS_LONG = True
NOTHING = "nothing to check: no clip of the source is held here"


def run(options: Options) -> int:
    """Checks up to 500 clips, and prints which are gone; takes them down if that is requested and confirmed."""
    if is_empty(options.root):
        print(NOTHING)
        return 0
    pipeline = resolve_indexed(options.root, options.state)
    with prefect_api(pipeline.state):
        from flows.recheck_take_downs import (
            recheck_take_downs,  # Prefect reads its settings when it is imported
        )
        from flows.services.runs import outcome_of

        with quieted(pipeline.state):
            done = outcome_of(lambda: recheck_take_downs(options))
    print(rechecked_text(done, is_dropped=options.drop_removed))
    if done.gone and not options.drop_removed:
        print(f"next: {command('recheck', options.root, pipeline.state)} --drop-removed")
    return 0


def rechecked_text(done: Rechecked, *, is_dropped: bool) -> str:
    """What the source said, and what was taken down."""
    if not (done.num_there or done.gone or done.unclear or done.num_unasked):
        return NOTHING
    lines = []
    for one in done.gone:
        is_taken_down = is_dropped and one.is_confirmed
        fate = "taken down" if is_taken_down else "stays: taken down when another recheck also finds it gone"
        lines.append(
            f"gone  {one.video_id}  {one.reason}: {one.detail}  ({fate if is_dropped else 'marked'})"
        )
    lines.append(f"{done.num_there:,} video(s) are still there, {len(done.gone):,} are gone")
    if done.unclear:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(done.unclear.items()))
        lines.append(f"no clear answer, so nothing was marked: {listed}")
    if done.num_unasked:
        lines.append(
            f"{done.num_unasked:,} could not be checked: every lane is closed; a later recheck will check them"
        )
    return "\n".join(lines)
