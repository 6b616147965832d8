// The stock Anthropic SDK for Node: a message, a stream, an error.
import Anthropic from "@anthropic-ai/sdk";

const [url, key] = process.argv.slice(2);
const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];

const found = {};
const whole = await client.messages.create({ model: "m", max_tokens: 64, messages });
found.text = whole.content[0].text;
const stream = client.messages.stream({ model: "m", max_tokens: 64, messages });
found.stream = await stream.finalText();
try {
  await client.messages.create({ model: "nope", max_tokens: 64, messages });
} catch (error) {
  found.error = [error.constructor.name, error.status];
}
console.log(JSON.stringify(found));
