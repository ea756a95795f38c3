"""Chat: the connections to Twitch IRC, what their lines mean, and what is kept of them."""
