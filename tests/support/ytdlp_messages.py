"""Messages that yt-dlp has really given, each with the class that it must get.

From the installed package's own sources (`source`), and from public issue threads (`repository#number`);
`unlocated` are known wordings of YouTube and of the libraries below whose thread was not looked up.
"""

LOGIN = (
    " Use --cookies-from-browser or --cookies for the authentication. See  "
    "https://github.com/yt-dlp/yt-dlp/wiki/FAQ#how-do-i-pass-cookies-to-yt-dlp  for how to manually pass cookies."
)
REPORT = (
    "; please report this issue on  https://github.com/yt-dlp/yt-dlp/issues?q= , filling out the appropriate "
    "issue template. Confirm you are on the latest version using  yt-dlp -U"
)
MESSAGES = [
    ("bot_check", "yt-dlp#11981", "[youtube] tpUr8xVxj-w: Sign in to confirm you’re not a bot." + LOGIN),
    ("bot_check", "yt-dlp#15392", "[youtube] M7FH1dL51oU: Sign in to confirm you're not a bot." + LOGIN),
    ("bot_check", "source", "Video unavailable. YouTube is requiring a captcha challenge before playback"),
    ("bot_check", "source", "All player responses are invalid. Your IP is likely being blocked by Youtube"),
    ("bot_check", "unlocated", "Our systems have detected unusual traffic from your computer network."),
    ("rate_limited", "yt-dlp#11426", "Video unavailable. This content isn't available, try again later."),
    ("rate_limited", "yt-dlp#11426", "Video unavailable. This content isn’t available, try again later."),
    (
        "rate_limited",
        "source",
        "This content isn't available, try again later. The current session has been rate-limited by YouTube "
        "for up to an hour. It is recommended to use `-t sleep` to add a delay between video requests",
    ),
    ("rate_limited", "source", "Your account has been rate-limited by YouTube for up to an hour."),
    ("rate_limited", "yt-dlp#6319", "Unable to download webpage: HTTP Error 429: Too Many Requests (caused by ...)"),
    ("rate_limited", "unlocated", "Unable to download webpage: HTTP Error 402: Payment Required"),
    ("forbidden", "yt-dlp#15750", "unable to download video data: HTTP Error 403: Forbidden"),
    ("forbidden", "yt-dlp#17681", "[youtube] 4FfOJIPgJVk: Unable to download API page: HTTP Error 403: Forbidden"),
    (
        "forbidden",
        "yt-dlp#15689",
        "[youtube] Ixrje2rXLMA: Some web client https formats have been skipped as they are missing a URL. "
        "YouTube is forcing SABR streaming for this client. See  https://github.com/yt-dlp/yt-dlp/issues/12482",
    ),
    (
        "forbidden",
        "source",
        "x: web client https formats require a GVS PO Token which was not provided. They will be skipped as they "
        "may yield HTTP Error 403. You can manually pass a GVS PO Token for this client",
    ),
    ("forbidden", "yt-dlp#17208", "The downloaded file is empty"),
    ("forbidden", "source", "fragment 1 not found, unable to continue"),
    (
        "extractor_broken",
        "source",
        "[youtube] abc: n challenge solving failed: Some formats may be missing. Ensure you have a supported "
        "JavaScript runtime and challenge solver script distribution installed.",
    ),
    ("extractor_broken", "source", "Signature solving failed: Some formats may be missing."),
    (
        "extractor_broken",
        "unlocated",
        "[youtube] abc: nsig extraction failed: Some formats may be missing",
    ),
    (
        "extractor_broken",
        "unlocated",
        "[youtube] abc: Unable to download API page: HTTP Error 400: Bad Request (caused by <HTTPError 400: Bad "
        "Request>). Precondition check failed.",
    ),
    ("extractor_broken", "source", "Cannot extract signature timestamp without player url"),
    ("extractor_broken", "source", "Cannot identify player 'https://www.youtube.com/s/player/x/base.js'"),
    ("extractor_broken", "yt-dlp#14277", "[youtube] ZFjw_Hh6TDQ: Failed to extract any player response" + REPORT),
    ("extractor_broken", "vididataset/VIDI#1", "Unable to extract uploader id" + REPORT),
    ("extractor_broken", "source", "An extractor error has occurred. (caused by KeyError('url'))" + REPORT),
    ("extractor_broken", "source", "x: Failed to parse JSON (caused by JSONDecodeError('Expecting value'))"),
    (
        "extractor_broken",
        "source",
        "No supported JavaScript runtime could be found. Only deno is enabled by default",
    ),
    ("extractor_broken", "yt-dlp#13969", "[youtube] abc: The following content is not available on this app"),
    (
        "extractor_broken",
        "unlocated",
        "The following content is not available on this app.. Watch on the latest version of YouTube.",
    ),
    ("extractor_broken", "unlocated", "[youtube] abc: The page needs to be reloaded."),
    ("age_gated", "source", "Sign in to confirm your age. This video may be inappropriate for some users." + LOGIN),
    ("age_gated", "youtube-dl#22188", "This video may be inappropriate for some users. Sign in to confirm your age"),
    ("age_gated", "unlocated", "This video is age-restricted and only available on YouTube"),
    ("age_gated", "youtube-gesture-dataset#5", "Content Warning. This video may be inappropriate for some users."),
    ("geo_blocked", "audiosetdl#24", "a9M70D-MRN0: The uploader has not made this video available in your country"),
    (
        "geo_blocked",
        "tg-ytdlp-bot#176",
        "[youtube] Frti4cmhDx4: Video unavailable. This video contains content from Paramount Global (CBS), who "
        "has blocked it in your country on copyright grounds",
    ),
    (
        "geo_blocked",
        "youtube-dl#209",
        "This video contains content from SME, who has blocked it in your country on copyright grounds.",
    ),
    ("geo_blocked", "source", "This video is not available from your location due to geo restriction"),
    ("geo_blocked", "source", "This video is not available in your country. You might want to use a VPN or a proxy"),
    ("geo_blocked", "source", "Access to this webpage has been blocked by Indian censorship. Use a VPN"),
    (
        "geo_blocked",
        "source",
        "Access to this webpage has been blocked by decision of the Russian government. Visit http://blocklist",
    ),
    ("geo_blocked", "unlocated", "Video unavailable. This video is not available in your region"),
    ("private", "audiobox-aesthetics#14", "Private video. Sign in if you've been granted access to this video" + LOGIN),
    (
        "private",
        "video2dataset#72",
        "This video is private. If the owner of this video has granted you access, please sign in.",
    ),
    (
        "private",
        "youtube-gesture-dataset#5",
        "If the owner of this video has granted you access, please sign in. This video is private.",
    ),
    ("private", "source", "This video is only available for registered users." + LOGIN),
    (
        "terminated",
        "VIDI#1",
        "Video unavailable. This video is no longer available because the YouTube account associated with this "
        "video has been terminated.",
    ),
    (
        "terminated",
        "unlocated",
        "Video unavailable. This video is no longer available because the uploader has closed their YouTube account.",
    ),
    (
        "terminated",
        "unlocated",
        "This video is no longer available because the YouTube account associated with this video has been "
        "terminated due to multiple third-party notifications of copyright infringement.",
    ),
    ("removed", "VIDI#1", "Video unavailable. This video has been removed by the uploader"),
    ("removed", "video2dataset#72", "[youtube] KqM_GGR5lig: This video has been removed by the uploader"),
    ("removed", "youtube-dl#18048", "This video has been removed by the user"),
    (
        "removed",
        "youtube-dl-gui#553",
        "[youtube] abc: This video has been removed for violating YouTube's Terms of Service",
    ),
    ("removed", "source", "This video has been removed for violating YouTube's policy on hate speech."),
    ("removed", "unlocated", "This video has been removed for violating YouTube's Community Guidelines."),
    (
        "removed",
        "unlocated",
        "This video has been removed for violating YouTube's policy on nudity or sexual content.",
    ),
    ("removed", "unlocated", "This video does not exist."),
    ("removed", "youtube-dl#4475", "fr3I54p2qhE: YouTube said: The uploader has not made this video available."),
    ("copyright", "Unrud#183", "Video unavailable. This video is no longer available due to a copyright claim by WMG"),
    (
        "copyright",
        "tubesync#478",
        "Video unavailable. This video is no longer available due to a copyright claim by Sarah Ann Kennedy",
    ),
    (
        "copyright",
        "unlocated",
        "This video contains content from UMG, who has blocked it on copyright grounds.",
    ),
    (
        "copyright",
        "youtube-dl#25673",
        "oxotOEZCh8g: YouTube said: This video is no longer available due to a copyright claim by Indivision.",
    ),
    (
        "members_only",
        "youtube-dl#29678",
        "Join this channel to get access to members-only content like this video, and other exclusive perks.",
    ),
    (
        "members_only",
        "unlocated",
        "This video is available to this channel's members on level: Gold (or any higher level). Join this "
        "channel to get access to members-only content and other exclusive perks.",
    ),
    ("members_only", "unlocated", "This video requires payment to watch."),
    ("members_only", "unlocated", "This video is only available to Music Premium members"),
    ("members_only", "unlocated", "Members-only content"),
    ("drm", "source", "This video is DRM protected"),
    (
        "drm",
        "source",
        "The requested site is known to use DRM protection. It will NOT be supported.",
    ),
    ("live", "ytdl-sub#1323", "[youtube+GetPOT] zDDmqpnkPy8: This live event will begin in 2 days."),
    ("live", "ytdl-sub#1323", "[youtube+GetPOT] CviUGzWvm6w: Premieres in 6 hours"),
    ("live", "unlocated", "This live stream recording is not available."),
    ("live", "source", "The channel is not currently live"),
    ("live", "source", "Live DASH videos are not supported"),
    ("unavailable_ambiguous", "audiobox-aesthetics#14", "[youtube] 2tTIdgl5rlI: Video unavailable"),
    ("unavailable_ambiguous", "yt-dlp#13583", "[youtube] abc: Video unavailable. This content isn’t available."),
    ("unavailable_ambiguous", "youtube-dl#6401", "j1uy3TlanSk: YouTube said: This video is not available."),
    ("unavailable_ambiguous", "youtube-dl#23468", "This video is unavailable."),
    ("unavailable_ambiguous", "yt-dlp#17702", "Video unavailable. This video is not available"),
    ("unavailable_ambiguous", "unlocated", "Video unavailable. This video isn't available anymore"),
    ("unavailable_ambiguous", "unlocated", "This video is no longer available"),
    ("too_large", "source", "[download] File is larger than max-filesize (5 bytes > 4 bytes). Aborting."),
    ("not_media", "source", "Unsupported URL: http://host/page"),
    ("not_media", "source", "'httpx' is not a valid URL"),
    ("not_media", "source", "Incomplete YouTube ID abc. URL https://www.youtube.com/watch?v=abc looks truncated."),
    (
        "no_format",
        "tg-ytdlp-bot#176",
        "[youtube] 9rdJJMAd-PA: Requested format is not available. Use --list-formats for a list",
    ),
    ("no_format", "source", "[youtube] abc: No video formats found!" + REPORT),
    ("disk_full", "source", "unable to write data: [Errno 28] No space left on device"),
    ("disk_full", "source", "Unable to download video: [Errno 28] No space left on device: 'media.mp4.part'"),
    ("network", "youtube-dl#22415", "Unable to download webpage: <urlopen error [Errno 54] Connection reset by peer>"),
    ("network", "youtube-dl#26855", "Unable to download webpage: [Errno 104] Connection reset by peer"),
    ("network", "youtube-dl#22415", "<urlopen error _ssl.c:1059: The handshake operation timed out>"),
    ("network", "yt-dlp#10603", "HTTPSConnectionPool(host='rr7---sn-pouxgn8t51-jx3z', port=443): Read timed out."),
    (
        "network",
        "yt-dlp#17671",
        "[youtube] KJybu1Y2tyY: Unable to download API page: 'Connection to www.youtube.com timed out. (connect "
        "timeout=20.0)'",
    ),
    ("network", "yt-dlp#11836", "Got error: [SYS] unknown error (_ssl.c:2570). Giving up after 10 retries"),
    (
        "network",
        "tartube#151",
        "Unable to download webpage: <urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed>",
    ),
    ("network", "yt-dlp#17671", "('Unable to connect to proxy', NameResolutionError(\"HTTPSConnection(host='h'\"))"),
    ("network", "source", "Failed to resolve 'www.youtube.com' ([Errno -3] Temporary failure in name resolution)"),
    ("network", "source", "1000 bytes read, 500 more expected. Giving up after 2 retries"),
    ("network", "source", "content too short (expected 28951844 bytes and served 239009)"),
    ("network", "youtube-dlc#112", "Downloaded 239009 bytes, expected 28951844 bytes"),
    ("network", "youtube-dl#18736", "Did not get any data blocks"),
    ("network", "unlocated", "Unable to download webpage: HTTP Error 503: Service Unavailable"),
    ("network", "unlocated", "unable to download video data: HTTP Error 500: Internal Server Error"),
    ("network", "source", "A network error has occurred. (caused by IncompleteRead(0 bytes read))"),
    ("network", "yt-dlp#8800", "'Connection to rr2---sn-cxaaj5o5q5-t9cl.googlevideo.com timed out'"),
    ("network", "source", "unable to download video data: HTTP Error 416: Requested Range Not Satisfiable"),
    ("network", "unlocated", "EOF occurred in violation of protocol (_ssl.c:1129)"),
    ("network", "unlocated", "('Connection aborted.', RemoteDisconnected('Remote end closed connection'))"),
    ("network", "source", "HTTP Error 302: Found (redirect loop detected)"),
    ("network", "unlocated", "Got error: [Errno 101] Network is unreachable"),
]  # fmt: skip
