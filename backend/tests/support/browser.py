"""A real Chromium, and what it is asked to do with the element ``video`` of its page."""

from __future__ import annotations

import os
import shutil

CHROMIUM = os.environ.get("CHROMIUM_PATH") or shutil.which("chromium") or shutil.which("chromium-browser")

# Nothing but the page is asked for: no updates, no services of the browser's maker.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# What the film is: once its index is read.
OPEN = """() => new Promise((resolve, reject) => {
    const video = document.getElementById("video");
    const tell = () => resolve({duration: video.duration, width: video.videoWidth, height: video.videoHeight});
    video.onerror = () => reject(video.error.message);
    if (video.error) reject(video.error.message); else if (video.readyState >= 1) tell();
    else video.onloadedmetadata = tell;
})"""

# The time of the picture that is shown after seeking; without a picture, the time that was sought. The word that an
# earlier picture was shown may come late, so a picture far from the wanted one counts only when no other follows.
SEEK = """(seconds) => new Promise((resolve, reject) => {
    const video = document.getElementById("video");
    let shown = null, sought = false;
    const tell = () => { if (sought && shown !== null && Math.abs(shown - seconds) < 0.1) resolve(shown); };
    const watch = () => video.requestVideoFrameCallback((_, frame) => { shown = frame.mediaTime; tell(); watch(); });
    if (video.videoWidth) watch();
    video.onerror = () => reject(video.error.message);
    video.onseeked = () => {
        sought = true;
        if (!video.videoWidth) resolve(video.currentTime);
        tell();
        setTimeout(() => resolve(shown), 10000);
    };
    video.currentTime = seconds;
})"""

PLAY = """(seconds) => new Promise((resolve, reject) => {
    const video = document.getElementById("video");
    video.onerror = () => reject(video.error.message);
    video.onseeked = () => {
        const frames = () => video.getVideoPlaybackQuality().totalVideoFrames;
        video.onended = () => resolve({time: video.currentTime, frames: frames()});
        video.playbackRate = 8;
        video.play().catch((error) => reject(String(error)));
    };
    video.currentTime = seconds;
})"""

# The colour in the middle of what is shown, and its width and height.
LOOK = """() => {
    const video = document.getElementById("video"), canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const [red, green, blue] = context.getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1).data;
    const colour = red > 180 && blue < 90 ? "red" : blue > 180 && red < 90 ? "blue" : `${red} ${green} ${blue}`;
    return [colour, video.videoWidth, video.videoHeight];
}"""
