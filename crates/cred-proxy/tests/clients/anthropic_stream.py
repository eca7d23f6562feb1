"""Streams one message through the SDK, and says each piece of text in a line as it comes.

Where the API is and the key stand in the SDK's own variables.
"""

import anthropic

client = anthropic.Anthropic(
    max_retries=0,
    default_headers={
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "one-2025-01-01,two-2025-02-02",
    },
    default_query={"beta": "true"},
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
