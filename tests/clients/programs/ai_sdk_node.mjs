// Vercel's AI SDK over both providers: text, stream, tools, objects.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [url, key] = process.argv.slice(2);
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: key });
const options = { prompt: "Say hello.", maxRetries: 0 };
const weather = tool({
  description: "The weather somewhere.",
  inputSchema: z.object({ city: z.string() }),
  execute: async () => "sunny",
});

const found = {};
for (const [name, model] of [
  ["chat", openai.chat("m")],
  ["responses", openai.responses("m")],
  ["messages", anthropic("m")],
]) {
  const whole = await generateText({ model, ...options });
  const stream = streamText({ model, ...options });
  const told = await generateText({
    model,
    ...options,
    tools: { weather },
    stopWhen: stepCountIs(2),
  });
  found[name] = {
    text: whole.text,
    stream: await stream.text,
    usage: (await stream.usage).outputTokens,
    tools: told.text,
  };
}
const point = await generateObject({
  model: openai.chat("m"),
  schema: z.object({ x: z.number(), y: z.number() }),
  ...options,
});
found.object = point.object;
console.log(JSON.stringify(found));
