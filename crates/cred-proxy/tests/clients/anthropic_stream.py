"""Streams one message through the SDK, and says each piece of text in a line as it comes.

Arguments: the base URL, how the SDK presents its key (api_key or auth_token), and the key.
"""

import sys

import anthropic

base_url, how, key = sys.argv[1:]
client = anthropic.Anthropic(
    base_url=base_url,
    max_retries=0,
    default_headers={
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "one-2025-01-01,two-2025-02-02",
    },
    default_query={"beta": "true"},
    **{how: key},
)
with client.messages.stream(
    model="claude-test",
    max_tokens=64,
    messages=[{"role": "user", "content": "Count."}],
) as stream:
    for text in stream.text_stream:
        print(text, flush=True)
    message = stream.get_final_message()
print(f"{message.stop_reason} {message.usage.output_tokens}")
