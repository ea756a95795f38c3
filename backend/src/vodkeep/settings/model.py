"""The settings as one typed object, in groups; each variable is declared here, once.

A declaration carries the variable's name, its default as an operator would write it, and why it exists. ``vodkeep
config``, ``docs/configuration.md`` and ``backend/.env.example`` are all made from these declarations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import URL

from vodkeep.quality import Qualities
from vodkeep.settings import forms
from vodkeep.settings.dsn import parse_dsn


def _variable(
    name: str, default: str | None, doc: str, *, secret: bool = False, in_repr: bool = True, example: str = ""
) -> Any:
    """Declare a field read from the variable ``name``.

    ``default`` is text in the variable's own form, ``None`` when the field is empty without it; ``example`` stands in
    ``.env.example`` where the default says too little.
    """
    return Field(
        default,
        alias=name,
        description=doc,
        repr=in_repr and not secret,
        json_schema_extra={"default_text": default or "", "secret": secret, "example": example},
    )


class Group(BaseModel):
    """Base of the groups: read once, never changed; fields can also be given by name, with their type."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, validate_by_name=True, validate_by_alias=True,
        hide_input_in_errors=True,
    )  # fmt: skip

    title: ClassVar[str]


class TwitchSettings(Group):
    """Whom to keep, and how to reach Twitch."""

    title: ClassVar[str] = "Twitch"

    channel: forms.Login = _variable(
        "TWITCH_CHANNEL",
        None,
        "The channel to keep, by its login. `#name` and the address of the channel's page work too.",
        example="yourchannel",
    )
    more_channels: forms.Logins = _variable(
        "TWITCH_CHANNELS", "", "More channels to keep; a channel named twice is kept once."
    )
    client_id: forms.Identifier = _variable(
        "TWITCH_CLIENT_ID",
        None,
        "Your application from dev.twitch.tv. Discovery and live status need it; `vodkeep archive` does not.",
    )
    client_secret: forms.Secret = _variable(
        "TWITCH_CLIENT_SECRET", None, "Belongs to TWITCH_CLIENT_ID; one without the other is refused.", secret=True
    )
    bot_username: forms.Login = _variable(
        "TWITCH_BOT_USERNAME", None, "The account that reads chat. Without one, chat is read anonymously."
    )
    oauth_token: forms.ChatToken = _variable(
        "TWITCH_OAUTH_TOKEN",
        None,
        "Chat token of TWITCH_BOT_USERNAME, with or without `oauth:` before it.",
        secret=True,
    )
    api_url: forms.WebUrl = _variable(
        "TWITCH_API_URL", "https://api.twitch.tv/helix", "Base address of the Helix API; tests point it elsewhere."
    )
    auth_url: forms.WebUrl = _variable(
        "TWITCH_AUTH_URL", "https://id.twitch.tv/oauth2", "Base address of Twitch's token service."
    )
    redirect_uri: forms.RedirectUrl = _variable(
        "TWITCH_REDIRECT_URI",
        None,
        "Where Twitch sends you back after consent, the same text as in the Twitch console; it ends with "
        "`/api/v1/accounts/twitch/callback`. Connecting with a code on the device needs none.",
        example="http://localhost:8080/api/v1/accounts/twitch/callback",
    )
    scopes: forms.Scopes = _variable(
        "TWITCH_SCOPES", "chat:read", "Rights asked for when a Twitch account is connected: to read chat."
    )
    gql_url: forms.WebUrl = _variable(
        "TWITCH_GQL_URL", "https://gql.twitch.tv/gql", "Address of the interface behind Twitch's web player."
    )
    irc_url: forms.ChatUrl = _variable(
        "TWITCH_IRC_URL",
        "ircs://irc.chat.twitch.tv:6697",
        "Address of Twitch's chat: `ircs` is TLS. `irc` has no TLS and is for tests on the same machine.",
    )
    gql_client_id: forms.Identifier = _variable(
        "TWITCH_GQL_CLIENT_ID",
        "kimne78kx3ncx6brgo4mv6wki5h1ko",
        "Client id that the web player itself sends there. It is public; change it only when Twitch does.",
    )

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel to keep: logins in lower case, each once, in the order given."""
        first = (self.channel,) if self.channel is not None else ()
        return tuple(dict.fromkeys(first + self.more_channels))


class ChatSettings(Group):
    """When chat is recorded."""

    title: ClassVar[str] = "Chat"

    auto_start: forms.Switch = _variable(
        "CHAT_AUTO_START", "0", "Record chat whenever a kept channel goes live, without anybody starting it."
    )
    vod_import: forms.Switch = _variable(
        "CHAT_VOD_IMPORT",
        "1",
        "Fetch the chat that was not recorded live from the comments of the VOD, once its picture is in its folder.",
    )
    auto_poll_interval: forms.Interval = _variable(
        "CHAT_AUTO_POLL_INTERVAL",
        "30s",
        "How often live status is asked. Shorter notices a stream sooner and spends more of Twitch's request budget.",
    )
    reconcile_delay: forms.Delay = _variable(
        "VOD_RECONCILE_DELAY",
        "1m",
        "Wait after a stream ends before its VOD is looked for; Twitch needs a moment to publish it.",
    )
    reconcile_window: forms.Interval = _variable(
        "VOD_RECONCILE_WINDOW",
        "15m",
        "How long the VOD is looked for. After that the stream is shown as one without a VOD, until one turns up.",
    )
    vod_id: forms.VodId = _variable(
        "TWITCH_VOD_ID",
        None,
        "Record the chat of TWITCH_CHANNEL into this VOD from the start of the service on, without asking whether the "
        "channel is live.",
        example="2345678901",
    )
    vod_start: forms.Moment = _variable(
        "TWITCH_VOD_START",
        None,
        "When the VOD of TWITCH_VOD_ID began, with its time zone. It is second 0 of the chat's timeline.",
        example="2026-11-23T14:37:00Z",
    )


class EmoteSettings(Group):
    """Where the emotes and badges that chat shows are kept from."""

    title: ClassVar[str] = "Emotes"

    enabled: forms.Switch = _variable(
        "CHAT_EMOTES", "1", "Keep the images of emotes and badges, so that chat can be replayed as it looked, offline."
    )
    twitch_cdn_url: forms.WebUrl = _variable(
        "TWITCH_CDN_URL", "https://static-cdn.jtvnw.net", "Base address of Twitch's emote images."
    )
    bttv_api_url: forms.WebUrl = _variable(
        "BTTV_API_URL", "https://api.betterttv.net/3", "Base address of BetterTTV's emote sets."
    )
    bttv_cdn_url: forms.WebUrl = _variable(
        "BTTV_CDN_URL", "https://cdn.betterttv.net", "Base address of BetterTTV's emote images."
    )
    ffz_api_url: forms.WebUrl = _variable(
        "FFZ_API_URL", "https://api.frankerfacez.com/v1", "Base address of FrankerFaceZ's emote sets."
    )
    seventv_api_url: forms.WebUrl = _variable(
        "SEVENTV_API_URL", "https://7tv.io/v3", "Base address of 7TV's emote sets."
    )

    @property
    def base_urls(self) -> tuple[str, ...]:
        """All of them; with the providers' own image hosts, these are the only addresses that are asked."""
        return (self.twitch_cdn_url, self.bttv_api_url, self.bttv_cdn_url, self.ffz_api_url, self.seventv_api_url)


class CatalogSettings(Group):
    """How far back a channel's VODs are looked for."""

    title: ClassVar[str] = "Catalog"

    backfill_interval: forms.Interval = _variable(
        "VOD_CATALOG_BACKFILL_INTERVAL",
        "6h",
        "How often the whole list of VODs is read again. It finds what discovery missed while the service was down.",
    )
    max_vods: forms.Limit = _variable(
        "VOD_CATALOG_MAX", None, "At most this many VODs per channel and backfill; empty or 0 means all."
    )
    max_age_days: forms.Days = _variable(
        "VOD_CATALOG_MAX_AGE_DAYS", None, "VODs older than this are left alone by backfill; empty or 0 means any age."
    )


class StorageSettings(Group):
    """Where broadcasts are kept."""

    title: ClassVar[str] = "Storage"

    data_dir: forms.Folder = _variable(
        "DATA_DIR",
        "data",
        "The archive. A relative path starts where the service is started; unfinished work is in `.work` inside it.",
    )
    folder_template: forms.FolderTemplate = _variable(
        "FOLDER_TEMPLATE",
        "{channel}/{date} {title} [{id}]",
        "Folder of one broadcast inside DATA_DIR, with `{channel}`, `{date}`, `{year}`, `{title}` and `{id}`, which is "
        "required, because titles repeat.",
    )
    disk_reserve: forms.Size = _variable(
        "DISK_RESERVE",
        "128MiB",
        "What captures leave free on the disk of DATA_DIR. One does not begin when it would not fit beside this.",
    )
    media_server_files: forms.Switch = _variable(
        "MEDIA_SERVER_FILES", "0", "Write `video.nfo` and artwork for Jellyfin and Kodi into every folder."
    )


class DatabaseSettings(Group):
    """Where the state is."""

    title: ClassVar[str] = "Database"

    dsn: forms.Dsn = _variable(
        "DB_DSN",
        None,
        "`postgres://user:password@host:5432/name` or `sqlite:///path`. Empty: SQLite in `DATA_DIR/vodkeep.db`, which "
        "is enough for one machine. A password is percent-encoded.",
        secret=True,
    )

    _default_url: URL = PrivateAttr(default_factory=lambda: URL.create("sqlite", database="data/vodkeep.db"))

    def url(self) -> URL:
        """The address for SQLAlchemy: ``postgresql+psycopg`` or ``sqlite``; ``str()`` of it hides the password."""
        return parse_dsn(self.dsn.get_secret_value()) if self.dsn is not None else self._default_url


class WebSettings(Group):
    """Who may reach the service, and how."""

    title: ClassVar[str] = "Web"

    http_addr: forms.Listen = _variable(
        "HTTP_ADDR",
        ":8080",
        "Where the service listens. `:8080` is every interface, `127.0.0.1:8080` this machine only, port 0 any free "
        "port.",
    )
    rate_limit_enabled: forms.Switch = _variable(
        "RATE_LIMIT_ENABLED", "1", "Limit requests per client address, counted before any password is checked."
    )
    rate_limit_requests_per_ip: forms.Count = _variable(
        "RATE_LIMIT_REQUESTS_PER_IP",
        "300",
        "Requests one address may send within RATE_LIMIT_WINDOW; enough for a busy page, too few to guess passwords.",
    )
    rate_limit_window: forms.Interval = _variable("RATE_LIMIT_WINDOW", "1m", "The span these requests are counted in.")
    cors_allowed_origins: forms.Origins = _variable(
        "CORS_ALLOWED_ORIGINS", "", "Other sites whose pages may call the API. Empty: only the service's own pages."
    )
    admin_username: forms.UserName = _variable(
        "ADMIN_USERNAME", None, "Name for `/admin/*` with a password; needs ADMIN_PASSWORD.", example="admin"
    )
    admin_password: forms.AdminSecret = _variable("ADMIN_PASSWORD", None, "Password of ADMIN_USERNAME.", secret=True)
    admin_token: forms.AdminSecret = _variable(
        "ADMIN_TOKEN", None, "For programs: the value of the header `X-Admin-Token`.", secret=True
    )

    @property
    def http_host(self) -> str:
        """The host to bind; empty for every interface, which is what asyncio and uvicorn understand by it."""
        return self.http_addr.host

    @property
    def http_port(self) -> int:
        """The port to bind, 0..65535; 0 lets the system choose."""
        return self.http_addr.port


class PipelineSettings(Group):
    """How the queue is worked through."""

    title: ClassVar[str] = "Pipeline"

    process_interval: forms.Interval = _variable(
        "VOD_PROCESS_INTERVAL", "1m", "How often new VODs are looked for and due work is started."
    )
    max_concurrent_downloads: forms.Downloads = _variable(
        "MAX_CONCURRENT_DOWNLOADS",
        "1",
        "Broadcasts downloaded at the same time. One usually fills the line already, see CAPTURE_CONNECTIONS.",
    )
    download_max_attempts: forms.Count = _variable(
        "DOWNLOAD_MAX_ATTEMPTS", "5", "Failed downloads of one broadcast before it waits for a person."
    )
    download_backoff_base: forms.Delay = _variable(
        "DOWNLOAD_BACKOFF_BASE", "2s", "First wait between attempts; it doubles, with jitter, up to five minutes."
    )
    download_rate_limit: forms.Rate = _variable(
        "DOWNLOAD_RATE_LIMIT",
        None,
        "Upper bound for all downloads together, such as `10MB` (decimal) or `2MiB`. Empty: as fast as the line.",
    )
    retry_cooldown: forms.Delay = _variable(
        "PROCESSING_RETRY_COOLDOWN", "10m", "Rest of a broadcast that failed before it is tried again."
    )
    breaker_threshold: forms.Count = _variable(
        "CIRCUIT_FAILURE_THRESHOLD",
        "5",
        "Failures in a row, of the kind the next broadcast would meet too, that open the circuit breaker.",
    )
    breaker_cooldown: forms.Interval = _variable(
        "CIRCUIT_OPEN_COOLDOWN", "5m", "Rest of an open breaker before one broadcast is tried as a probe."
    )
    capture_connections: forms.Connections = _variable(
        "CAPTURE_CONNECTIONS",
        "32",
        "The most connections of one download. It begins with few and takes more only while that makes it faster.",
    )
    quality: forms.Wish = _variable(
        "VOD_QUALITY",
        "best",
        "What is fetched: `best`, `audio`, or a height such as `720p` or `1080p60`. What a broadcast does not have is "
        "replaced by the next lower, else the next higher.",
    )
    channel_qualities: forms.ChannelWishes = _variable(
        "VOD_QUALITY_CHANNELS",
        "",
        "Channels with a quality of their own instead of VOD_QUALITY.",
        example="somebody=audio,another=720p60",
    )

    @property
    def qualities(self) -> Qualities:
        """What is asked for, channel by channel."""
        return Qualities(self.quality, self.channel_qualities)


class UploadSettings(Group):
    """Whether broadcasts are published on YouTube."""

    title: ClassVar[str] = "Uploads"

    enabled: forms.Switch = _variable("YOUTUBE_UPLOAD_ENABLED", "0", "Publish kept broadcasts on YouTube.")
    ownership: forms.Ownership = _variable(
        "YOUTUBE_UPLOAD_OWNERSHIP",
        None,
        "Your right to publish them: `self` (they are yours) or `authorized` (the owner agreed). Uploads need it.",
    )
    max_concurrent: forms.Count = _variable(
        "MAX_CONCURRENT_UPLOADS", "1", "Broadcasts uploaded at the same time; downloads have places of their own."
    )
    max_attempts: forms.Count = _variable(
        "UPLOAD_MAX_ATTEMPTS",
        "5",
        "Failed uploads of one broadcast before it cools down for PROCESSING_RETRY_COOLDOWN.",
    )
    backoff_base: forms.Delay = _variable(
        "UPLOAD_BACKOFF_BASE", "2s", "First wait between attempts; it doubles, with jitter, up to five minutes."
    )
    daily_limit: forms.Count = _variable(
        "UPLOAD_DAILY_LIMIT", "10", "Uploads per day, so that the quota of the Google project lasts."
    )
    backfill_daily_limit: forms.CountOrNone = _variable(
        "BACKFILL_UPLOAD_DAILY_LIMIT",
        "10",
        "How many of those may be old broadcasts, so that new ones never queue behind them; 0 uploads new ones only.",
    )
    rate_limit: forms.Rate = _variable(
        "UPLOAD_RATE_LIMIT",
        None,
        "Upper bound for all uploads together, such as `2MB` (decimal) or `1MiB`. Empty: as fast as the line.",
    )
    chunk_size: forms.ChunkSize = _variable(
        "UPLOAD_CHUNK_SIZE",
        "32MiB",
        "How much is sent in one request, in steps of 256 KiB. A broken request costs at most this much again.",
    )
    part_duration: forms.Interval = _variable(
        "UPLOAD_PART_DURATION",
        "12h",
        "A longer broadcast is cut into parts, without loss. YouTube takes 12 hours.",
    )
    part_size: forms.Size = _variable(
        "UPLOAD_PART_SIZE", "256GB", "A larger broadcast is cut into parts, without loss. YouTube takes 256 GB."
    )


class VideoSettings(Group):
    """What YouTube is told about a broadcast."""

    title: ClassVar[str] = "Videos"

    title_template: forms.VideoTemplate = _variable(
        "YOUTUBE_TITLE",
        "{title}",
        "Title of a video. Also known: `{channel}`, `{name}`, `{date}`, `{time}` and `{id}`.",
        example="{date} {title} ({name})",
    )
    description_template: forms.DescriptionTemplate = _variable(
        "YOUTUBE_DESCRIPTION",
        "{description}\\n\\n{chapters}\\n\\n{provenance}",
        "Description of a video; `\\n` ends a line. Also known: the placeholders of YOUTUBE_TITLE, `{url}`, "
        "`{duration}` and `{parts}`.",
    )
    tags: forms.TagTemplates = _variable(
        "YOUTUBE_TAGS",
        "Twitch,{name}",
        "Tags of a video, with the placeholders of YOUTUBE_TITLE. What does not fit into YouTube's 500 characters is "
        "left out.",
    )
    playlist: forms.Playlist = _variable(
        "YOUTUBE_PLAYLIST", None, "Playlist that videos are put into, by its id or the address of its page."
    )
    channel_playlists: forms.ChannelPlaylists = _variable(
        "YOUTUBE_PLAYLIST_CHANNELS",
        "",
        "Channels with a playlist of their own instead of YOUTUBE_PLAYLIST.",
        example="somebody=PLabcdefghijklm",
    )
    privacy: forms.Privacy = _variable(
        "YOUTUBE_PRIVACY", "private", "Who can see a video: `private`, `unlisted` or `public`."
    )
    channel_privacies: forms.ChannelPrivacies = _variable(
        "YOUTUBE_PRIVACY_CHANNELS",
        "",
        "Channels with a privacy of their own instead of YOUTUBE_PRIVACY.",
        example="somebody=unlisted,another=public",
    )
    category: forms.Category = _variable(
        "YOUTUBE_CATEGORY", "20", "Category of a video, by YouTube's number; 20 is Gaming."
    )
    channel_categories: forms.ChannelCategories = _variable(
        "YOUTUBE_CATEGORY_CHANNELS",
        "",
        "Channels with a category of their own instead of YOUTUBE_CATEGORY.",
        example="somebody=22",
    )
    made_for_kids: forms.Switch = _variable(
        "YOUTUBE_MADE_FOR_KIDS", "0", "Declare videos as made for children, which the law may ask of you."
    )
    language: forms.Language = _variable(
        "YOUTUBE_LANGUAGE", None, "Language of title, description and sound, such as `en` or `pt-BR`.", example="en"
    )


class YouTubeSettings(Group):
    """The Google project that uploads go through."""

    title: ClassVar[str] = "YouTube"

    client_id: forms.Identifier = _variable("YT_CLIENT_ID", None, "OAuth client of your Google project.")
    client_secret: forms.Secret = _variable("YT_CLIENT_SECRET", None, "Belongs to YT_CLIENT_ID.", secret=True)
    redirect_uri: forms.RedirectUrl = _variable(
        "YT_REDIRECT_URI",
        None,
        "Where Google sends you back after consent; the same text as in the Google console. It ends with "
        "`/api/v1/accounts/youtube/callback`.",
        example="http://localhost:8080/api/v1/accounts/youtube/callback",
    )
    scopes: forms.Scopes = _variable(
        "YT_SCOPES",
        "https://www.googleapis.com/auth/youtube.upload https://www.googleapis.com/auth/youtube.readonly",
        "Rights asked for: to upload, and to see whether an upload was processed, which deleting local files waits "
        "for.",
    )
    auth_url: forms.WebUrl = _variable(
        "YT_AUTH_URL",
        "https://accounts.google.com/o/oauth2/v2/auth",
        "Address of Google's consent page; tests point it elsewhere.",
    )
    token_url: forms.WebUrl = _variable(
        "YT_TOKEN_URL", "https://oauth2.googleapis.com", "Base address of Google's token service."
    )
    api_url: forms.WebUrl = _variable(
        "YT_API_URL", "https://www.googleapis.com", "Base address of the YouTube Data API; tests point it elsewhere."
    )
    quota: forms.Count = _variable(
        "YOUTUBE_QUOTA",
        "10000",
        "Units a day that the Google project may spend; 10,000 unless Google gave you more. Midnight Pacific time "
        "renews them.",
    )
    upload_quota: forms.Count = _variable(
        "YOUTUBE_UPLOAD_QUOTA", "100", "Uploads a day that the Google project may begin; Google counts them apart."
    )


class RetentionSettings(Group):
    """Which local files may go."""

    title: ClassVar[str] = "Retention"

    keep_days: forms.Days = _variable(
        "RETENTION_KEEP_DAYS",
        None,
        "Videos of broadcasts that are older may go from the disk; empty or 0 sets no such limit.",
    )
    keep_count: forms.Limit = _variable(
        "RETENTION_KEEP_COUNT",
        None,
        "Videos beyond so many of the newest of their channel may go; empty or 0 sets no such limit.",
    )
    keep_bytes: forms.OptionalSize = _variable(
        "RETENTION_KEEP_BYTES",
        None,
        "Videos beyond the newest of their channel that fit into this size may go, such as `500GB`; empty or 0 sets no "
        "such limit. Of several limits each has to let a video go.",
    )
    channel_rules: forms.RetentionRules = _variable(
        "RETENTION_CHANNELS",
        "",
        "Channels with limits of their own instead of these three: `keep` (nothing goes), or some of `days:`, `count:` "
        "and `bytes:`.",
        example="somebody=keep,another=days:30 count:10 bytes:500GB",
    )
    only_copy: forms.Switch = _variable(
        "RETENTION_ONLY_COPY",
        "0",
        "Let go of videos, too, that are not proven to be on YouTube. Then they are gone for good.",
    )
    proven_after: forms.Delay = _variable(
        "RETENTION_PROVEN_AFTER",
        "24h",
        "How long YouTube must have shown a video whole, from its first word on that to its latest, before the one on "
        "the disk may go.",
    )
    trash_window: forms.Delay = _variable(
        "RETENTION_TRASH_WINDOW",
        "168h",
        "How long a video that was let go lies in the trash, from where `vodkeep retention undo` brings it back.",
    )
    dry_run: forms.Switch = _variable(
        "RETENTION_DRY_RUN", "0", "Tell in the log what would go, on schedule too, and touch nothing."
    )
    interval: forms.Interval = _variable("RETENTION_INTERVAL", "6h", "How often retention looks at the archive.")


class ScrubSettings(Group):
    """Reading what was kept again, to find what a disk has lost."""

    title: ClassVar[str] = "Scrubbing"

    interval: forms.Delay = _variable(
        "SCRUB_INTERVAL",
        "720h",
        "How often every file of the archive is read and compared with its checksum; 0 switches that off.",
    )
    rate: forms.Rate = _variable(
        "SCRUB_RATE", "20MB", "Upper bound for this reading, such as `20MB` a second. Empty: as fast as the disk."
    )
    repair: forms.Switch = _variable(
        "SCRUB_REPAIR",
        "1",
        "Mend what is damaged: fetch it again while Twitch has it, write chat again from the database. 0: only tell.",
    )


class SecuritySettings(Group):
    """Secrets at rest."""

    title: ClassVar[str] = "Security"

    encryption_key: forms.EncryptionKey = _variable(
        "ENCRYPTION_KEY",
        None,
        "Encrypts stored tokens. Make one with `openssl rand -base64 32` and keep a copy apart from the backups.",
        secret=True,
    )

    encryption_key_old: forms.EncryptionKey = _variable(
        "ENCRYPTION_KEY_OLD",
        None,
        "The key before ENCRYPTION_KEY, while keys are changed: tokens encrypted with it can still be read, until "
        "`vodkeep tokens migrate` has encrypted them anew.",
        secret=True,
    )

    def encryption_key_bytes(self) -> bytes | None:
        """The 32 bytes of the key, or ``None`` without one."""
        return None if self.encryption_key is None else forms.decode_key(self.encryption_key.get_secret_value())

    def old_encryption_key_bytes(self) -> bytes | None:
        """The 32 bytes of the key before, or ``None`` without one."""
        return None if self.encryption_key_old is None else forms.decode_key(self.encryption_key_old.get_secret_value())


class LogSettings(Group):
    """What the service tells about its work."""

    title: ClassVar[str] = "Log"

    level: forms.LogLevel = _variable("LOG_LEVEL", "info", "`debug`, `info`, `warning` (or `warn`) or `error`.")
    format: forms.LogFormat = _variable("LOG_FORMAT", "text", "`text` for people, `json` for log collectors.")


class TracingSettings(Group):
    """Where traces go."""

    title: ClassVar[str] = "Tracing"

    otlp_endpoint: forms.OptionalWebUrl = _variable(
        "OTEL_EXPORTER_OTLP_ENDPOINT", None, "Collector that traces are sent to. Empty: no traces are made."
    )


class ToolSettings(Group):
    """Programs the service calls; each can be replaced without a new release of Vodkeep."""

    title: ClassVar[str] = "Tools"

    ytdlp_path: forms.Program = _variable(
        "YTDLP_PATH", None, "A yt-dlp of your own, when Twitch changed and ours is too old. Empty: the installed one."
    )
    ytdlp_args: forms.Arguments = _variable(
        "YTDLP_ARGS",
        "",
        "More arguments for it, quoted as in a shell, such as a proxy or the cookies of an account.",
        in_repr=False,  # may hold a password
    )
    ffmpeg_path: forms.Program = _variable(
        "FFMPEG_PATH", None, "An ffmpeg of your own. Empty: the one installed with Vodkeep."
    )
    pg_dump_path: forms.Program = _variable(
        "PG_DUMP_PATH",
        None,
        "The pg_dump, with pg_restore beside it, that copies a PostgreSQL database; of the server's version or newer. "
        "Empty: the one on the search path.",
    )


class Source(StrEnum):
    """Where a value comes from."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Variable:
    """One declared variable."""

    name: str
    group: str  # the title of its group
    group_field: str  # the group's name in ``Settings``
    field: str  # the field's name in its group
    default: str  # as written; empty when there is none
    doc: str
    secret: bool
    example: str
    form: forms.Form


@dataclass(frozen=True, slots=True)
class Given:
    """The variables found outside, by name; empty ones are left out."""

    environment: Mapping[str, str] = field(default_factory=dict)
    file: Mapping[str, str] = field(default_factory=dict)


class _VariableSource(PydanticBaseSettingsSource):
    """Sorts flat variables into the groups that declare them."""

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._values = values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The variables of one group."""
        group = field.annotation
        assert isinstance(group, type)
        assert issubclass(group, Group)
        names = [member.alias or name for name, member in group.model_fields.items()]
        return {name: self._values[name] for name in names if name in self._values}, field_name, False

    def __call__(self) -> dict[str, Any]:
        """All groups, so that each is validated and every problem is found in one go."""
        return {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}


class Settings(BaseSettings):
    """Everything an operator can set. Made by ``load_settings``; passed on in groups, never imported as a global."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    twitch: TwitchSettings
    chat: ChatSettings
    emotes: EmoteSettings
    catalog: CatalogSettings
    storage: StorageSettings
    database: DatabaseSettings
    web: WebSettings
    pipeline: PipelineSettings
    uploads: UploadSettings
    videos: VideoSettings
    youtube: YouTubeSettings
    retention: RetentionSettings
    scrub: ScrubSettings
    security: SecuritySettings
    log: LogSettings
    tracing: TracingSettings
    tools: ToolSettings

    _given: Given = PrivateAttr(default_factory=Given)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def read(cls, given: Given, warnings: tuple[str, ...] = ()) -> Self:
        """Settings from variables; raises ``pydantic.ValidationError``, which only ``load_settings`` should see."""
        settings = cls.model_validate({"given": given})
        settings._given = given
        settings._warnings = warnings
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over the file; both are handed in, so that a test's settings are its own."""
        given = init_settings().get("given", Given())
        return _VariableSource(settings_cls, given.environment), _VariableSource(settings_cls, given.file)

    @model_validator(mode="after")
    def _place_database(self) -> Self:
        path = self.storage.data_dir / "vodkeep.db"
        self.database._default_url = URL.create("sqlite", database=str(path))
        return self

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what looks like a slip but stops nothing: unknown variables, halves of pairs."""
        return self._warnings

    def source_of(self, name: str) -> Source:
        """Where the value of the variable ``name`` comes from."""
        if name in self._given.environment:
            return Source.ENVIRONMENT
        return Source.FILE if name in self._given.file else Source.DEFAULT

    def value_of(self, variable: Variable) -> object:
        """The typed value of a declared variable."""
        return getattr(getattr(self, variable.group_field), variable.field)

    def secret_values(self) -> frozenset[str]:
        """Every secret in plain text, for the log's mask; the password inside DB_DSN is one of them."""
        values = {
            value.get_secret_value()
            for variable in declared_variables()
            if isinstance(value := self.value_of(variable), SecretStr)
        }
        if password := self.database.url().password:
            values.add(str(password))
        return frozenset(values)


def declared_variables() -> tuple[Variable, ...]:
    """Every variable, in the order of the documentation."""
    return tuple(
        _declared(group_field, group, name, member)
        for group_field, group_info in Settings.model_fields.items()
        if isinstance(group := group_info.annotation, type) and issubclass(group, Group)
        for name, member in group.model_fields.items()
    )


def _declared(group_field: str, group: type[Group], name: str, member: FieldInfo) -> Variable:
    extra = member.json_schema_extra
    assert isinstance(extra, dict)
    form = next(item for item in member.metadata if isinstance(item, forms.Form))
    return Variable(
        name=member.alias or name,
        group=group.title,
        group_field=group_field,
        field=name,
        default=str(extra["default_text"]),
        doc=member.description or "",
        secret=bool(extra["secret"]),
        example=str(extra["example"]),
        form=form,
    )
