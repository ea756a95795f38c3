"""The emote and badge vault: what every code and badge looked like when a broadcast ran, kept for good.

`answers` reads what Twitch, BTTV, FFZ and 7TV say about their sets, `changes` compares that with what was known, and
`store` writes down from when to when each code meant which image. `client` fetches images, under the rules of
`addresses` and `images`; `files` keeps each once by its hash. `view` tells what held during one broadcast. `service`
ties them together. Replay asks only the database and the disk.
"""
