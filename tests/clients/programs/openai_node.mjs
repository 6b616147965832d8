// The stock OpenAI SDK for Node: chat, stream, tools, responses, embeddings, errors.
import OpenAI from "openai";

const [url, key] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];
const tools = [
  {
    type: "function",
    function: {
      name: "weather",
      parameters: { type: "object", properties: { city: { type: "string" } } },
    },
  },
];

const found = {};
const whole = await client.chat.completions.create({ model: "m", messages });
found.chat = whole.choices[0].message.content;
const runner = client.chat.completions.stream({ model: "m", messages });
found.stream = (await runner.finalChatCompletion()).choices[0].message.content;
const called = await client.chat.completions.create({ model: "m", messages, tools });
found.tools = JSON.parse(called.choices[0].message.tool_calls[0].function.arguments);
const response = await client.responses.create({ model: "m", input: "Say hello." });
found.responses = response.output_text;
const vectors = await client.embeddings.create({ model: "m", input: "a" });
found.embeddings = vectors.data[0].embedding.length;
try {
  await client.chat.completions.create({ model: "nope", messages });
} catch (error) {
  found.error = [error.constructor.name, error.status, error.code];
}
console.log(JSON.stringify(found));
