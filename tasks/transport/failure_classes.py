"""Failure classes: who is to blame for a failure, and how often it must be seen before it counts.

Faults of the lane, the world or the tool never count against a segment. Faults of the video itself are confirmed on
other days before the segment counts as unavailable.
"""

import errno
import re
from dataclasses import dataclass
from enum import StrEnum

from schemas.outcome import ItemError, Outcome, Transient


class Fault(StrEnum):
    """Who is to blame, which decides what happens next."""

    VIDEO = "video"  # to be confirmed on other days
    LANE = "lane"  # it pauses, cools down and continues at half its rate
    TOOL = "tool"  # the extractor is broken: the stage pauses until it is updated
    WORLD = "world"  # tried again within hours
    MACHINE = "machine"  # a full disk: the stage stops, loudly


@dataclass(frozen=True)
class FailureClass:
    """One class; `sightings` on different days make a segment unavailable."""

    fault: Fault
    sightings: int = 0


GONE = FailureClass(Fault.VIDEO, 3)  # seen, and confirmed on two other days
AMBIGUOUS = FailureClass(Fault.VIDEO, 4)  # and on three: it may be the lane's doing
SURE = FailureClass(Fault.VIDEO, 2)  # measured on bytes that a host sent: it may send others tomorrow
CLASSES = {
    "rate_limited": FailureClass(Fault.LANE),
    "bot_check": FailureClass(Fault.LANE),
    "forbidden": FailureClass(Fault.LANE),  # HTTP 403, and formats that want a PO token
    "extractor_broken": FailureClass(Fault.TOOL),
    "network": FailureClass(Fault.WORLD),
    "unknown": FailureClass(Fault.WORLD),
    "disk_full": FailureClass(Fault.MACHINE),
    "private": GONE,
    "removed": GONE,
    "terminated": GONE,
    "copyright": GONE,
    "members_only": GONE,
    "drm": GONE,
    "age_gated": GONE,
    "geo_blocked": AMBIGUOUS,
    "unavailable_ambiguous": AMBIGUOUS,
    "live": SURE,
    "too_short": SURE,
    "too_large": SURE,
    "no_format": GONE,  # no sufficient format
    "not_media": GONE,
    "empty": GONE,
    "policy_reject": GONE,  # a redirect that is not followed, a name that is not an id
}
DAMAGED = "decodable"  # by which a file is quarantined that is no film; of a host's, when another day brings the same
# The settings in lanes.json that may help a lane that fails with this class: docs/acquisition.md.
HATCHES = {
    "bot_check": ("cookies_from_browser", "cookies", "po_token_provider"),
    "forbidden": ("po_token_provider", "extractor_args", "impersonate"),
    "extractor_broken": ("extractor_args",),
    "rate_limited": ("videos_per_hour", "requests_per_hour", "proxy"),
    "geo_blocked": ("proxy",),
    "age_gated": ("cookies_from_browser", "cookies"),
    "members_only": ("cookies_from_browser", "cookies"),
    "private": ("cookies_from_browser", "cookies"),
}
# Patterns of messages, most specific first: of yt-dlp, of YouTube behind it, and of the libraries below it.
MESSAGES = (
    ("disk_full", r"no space left on device|errno 28\b|disk quota exceeded"),
    ("rate_limited", r"rate.?limited|try again later|too many requests|error 429|error 402"),
    ("bot_check", r"not a bot|captcha|unusual traffic|automated queries|your ip is likely being blocked"),
    ("age_gated", r"confirm your age|age.?restricted|inappropriate for some users|age verification|content warning"),
    ("members_only", r"members?.only|join this channel|available to this channel'?s members|requires payment"
     r"|music premium|youtube premium|purchase|rental|rented|paid subscription"),
    ("geo_blocked", r"in your country|your location|geo.?restrict|your region|from your country"
     r"|blocked by \w+ censorship|by decision of the russian government|unblock-us"),
    ("private", r"video is private|private video|granted (you )?access|registered users|requires? (login|account)"
     r"|login required|account cookies are (no longer|required)|sign in to (view|watch|youtube)"),
    ("terminated", r"account (associated with this video )?(has been |is )?(terminated|closed|suspended)"
     r"|closed (their|his|her) youtube account|channel.{0,40}(terminated|removed|no longer exist)"),
    ("copyright", r"copyright|contains content from|third-party notification"),
    ("drm", r"\bdrm\b"),
    ("removed", r"removed by the (uploader|user)|been removed|been deleted|does not exist|for violating"
     r"|no longer available because the uploader|offensive|hate speech|uploader has not made this video available"),
    ("live", r"live event|premieres? (in|will)|is live\b|live stream|livestream|not currently live|stream is offline"
     r"|recording is not available|live dash"),
    ("extractor_broken", r"precondition check failed|(signature|n|js) challenge|challenge solving|nsig"
     r"|signature (solving|extraction|timestamp)|cannot decrypt|player (response|version|_?url)|unable to extract"
     r"|extractor error|cannot identify player|failed to (parse|extract)|no supported javascript"
     r"|not available on this app|error code: 152|latest version of youtube|page needs to be reloaded|error 400"
     r"|invalid argument|did not match"),
    ("forbidden", r"po.?token|\bsabr\b|forbidden|error 403|error 401|fragment \d+ not found|downloaded file is empty"
     r"|missing a url"),
    ("too_large", r"larger than max-filesize"),
    ("not_media", r"unsupported url|not a valid url|is not a media|incomplete youtube id|looks truncated"),
    ("no_format", r"requested format|no video formats|unable to download: no formats|no media found"),
    ("unavailable_ambiguous", r"(video|content|recording|it) (is|isn.?t|has been)?\s*(not |no longer |un)?available"
     r"|video unavailable|unavailable video|this video is unavailable|content isn.?t available|error 404|error 410"
     r"|not a valid video|sorry about that"),
    ("network", r"timed? ?out|timeout|connection|more expected|bytes read|unreachable|name resolution|getaddrinfo"
     r"|resolve|name or service|nodename|ssl|certificate|proxy|data blocks|too short|incomplete|eof occurred"
     r"|remote end|server|error 5\d\d|error 416|temporar|retries|retry|network|redirect|transport|errno 1\d\d"
     r"|read error|internal error|something went wrong|an error occurred|expected \d+"),
)  # fmt: skip
_PATTERNS = [(name, re.compile(pattern)) for name, pattern in MESSAGES]
MAX_DETAIL = 500  # of evidence, in characters: a page of HTML or a URL with tokens does not count as evidence


def class_of(message: str) -> str:
    """The class of a message; `unknown` for one that no pattern matches."""
    lowered = message.lower().replace("’", "'")
    return next((name for name, pattern in _PATTERNS if pattern.search(lowered)), "unknown")


def failure(reason: str, detail: str, status: int | None = None) -> ItemError | Transient | OSError:
    """The error to raise for class `reason`: ItemError for the video's own fault, OSError for the machine's."""
    fault = CLASSES[reason].fault
    detail = detail[:MAX_DETAIL]
    if fault == Fault.MACHINE:
        return OSError(errno.ENOSPC, detail)
    if fault == Fault.VIDEO:
        return ItemError(Outcome.UNAVAILABLE, reason, detail, status)
    return Transient(reason, detail, status)


def hint(reason: str) -> str:
    """A hint to append to the reason of a failing lane; empty if no setting of a lane helps."""
    return f" ({', '.join(HATCHES[reason])} in lanes.json may help)" if reason in HATCHES else ""
