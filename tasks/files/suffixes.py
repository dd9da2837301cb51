"""File suffixes: which of them are films, which are sounds, and which hold neither.

Every suffix that a demuxer of libav claims is in one of these sets. Films also have those of cameras and programs.
"""

VIDEO_SUFFIXES = {
    ".3g2", ".3gp", ".3gpp", ".264", ".265", ".266", ".amv", ".asf", ".avc", ".avi", ".avs2", ".avs3", ".bmv", ".cavs",
    ".cdxl", ".dav", ".dif", ".divx", ".dv", ".dvr-ms", ".evc", ".f4v", ".flm", ".flv", ".gifv", ".gxf", ".h261",
    ".h264", ".h265", ".h266", ".h26l", ".hevc", ".ifv", ".imx", ".ipu", ".ismv", ".ivf", ".ivr", ".kux", ".lvf",
    ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4s", ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mod",
    ".moflex", ".mov", ".mp2v", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mvi", ".mxf", ".mxg",
    ".nsv", ".nut", ".obu", ".ogm", ".ogv", ".ogx", ".pdv", ".ps", ".psp", ".qt", ".rcv", ".rm", ".rmvb", ".roq",
    ".smk", ".tod", ".tp", ".trp", ".ts", ".ty", ".ty+", ".usm", ".vc1", ".viv", ".vob", ".vro", ".vvc", ".webm",
    ".wm", ".wmv", ".wtv", ".xmv", ".xvid", ".y4m", ".yop",
}  # fmt: skip
AUDIO_SUFFIXES = {
    ".302", ".722", ".aa", ".aa3", ".aac", ".aax", ".ac3", ".ac4", ".acm", ".adp", ".ads", ".adx", ".aea", ".afc",
    ".aif", ".aifc", ".aiff", ".aix", ".al", ".amr", ".apc", ".ape", ".apl", ".aptx", ".aptxhd", ".ast", ".au", ".avr",
    ".bcstm", ".bfstm", ".binka", ".bonk", ".brstm", ".c2", ".caf", ".daud", ".dfpwm", ".dff", ".dsf", ".dss", ".dtk",
    ".dts", ".dtshd", ".eac3", ".ec3", ".fap", ".flac", ".fsb", ".fwse", ".g722", ".g723_1", ".g728", ".g729", ".genh",
    ".gsm", ".hca", ".iamf", ".ircam", ".isma", ".laf", ".lc3", ".m2a", ".m4a", ".m4b", ".mac", ".mca", ".mka", ".mlp",
    ".mods", ".mp2", ".mp3", ".mpa", ".mpc", ".msbc", ".msf", ".mtaf", ".musx", ".nist", ".nsp", ".oga", ".ogg",
    ".oma", ".omg", ".opus", ".osq", ".paf", ".pvf", ".qoa", ".rco", ".redspark", ".rka", ".rsd", ".rso", ".sb",
    ".sbc", ".sdns", ".sdr2", ".sds", ".sdx", ".sf", ".sga", ".shn", ".sln", ".son", ".spx", ".sph", ".ss2", ".svag",
    ".svs", ".sw", ".tak", ".tco", ".thd", ".tta", ".ub", ".ul", ".uw", ".vag", ".vb", ".vpk", ".vqe", ".vqf", ".vql",
    ".w64", ".wa", ".wav", ".way", ".wma", ".wsd", ".wv", ".xa", ".xmd", ".xvag",
}  # fmt: skip
MEDIA_SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES
# Pictures, subtitles, texts, and streams that can't be read without knowing their rate and size.
OTHER_SUFFIXES = {
    ".adf", ".ans", ".apv", ".aqt", ".art", ".asc", ".avif", ".avs", ".bit", ".bitpacked", ".cdata", ".cdg", ".cgi",
    ".cif", ".dat", ".diz", ".gif", ".heic", ".heif", ".ice", ".idf", ".idx", ".ism", ".j2k", ".jxl", ".mcc", ".mks",
    ".mpl2", ".mpo", ".nfo", ".pjs", ".qcif", ".rgb", ".rt", ".sami", ".sbg", ".scc", ".ser", ".smi", ".stl", ".str",
    ".sub", ".sup", ".txt", ".v", ".v210", ".vt", ".vtt", ".webvtt", ".xl", ".yuv", ".yuv10",
}  # fmt: skip
