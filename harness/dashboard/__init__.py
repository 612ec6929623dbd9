"""The static site over the history: `cllm dashboard`.

`shifts` judges changes of level, `series` says what the site holds of one series, `charts` how it
is drawn, `site` writes the folder, `server` serves it. The page itself is in `templates/`.
"""
