// Asks a client for the same picture so many times: what came each time, or the client's own error.
// CLIENT TIMES; keys are in the environment, as each client reads them.
const [name, times] = process.argv.slice(2);
const old = process.versions.node.startsWith('20.');
const prompt = 'a brass compass';
const download = async (url) => Buffer.from(await (await fetch(url)).arrayBuffer());
const body = { model: 'gpt-image-2', prompt, size: '1024x1024', quality: 'low' };
const headers = { authorization: `Bearer ${process.env.OPENAI_API_KEY}`, 'content-type': 'application/json' };
const url = 'https://api.openai.com/v1/images/generations';

const clients = {
  async openai() {
    const { default: OpenAI } = await import(old ? 'openai-for-node-20' : 'openai');
    const client = new OpenAI({ maxRetries: 0 });
    return async () => Buffer.from((await client.images.generate(body)).data[0].b64_json, 'base64');
  },
  async google() {
    const { GoogleGenAI } = await import('@google/genai');
    const client = new GoogleGenAI({ apiKey: process.env.GOOGLE_API_KEY });
    const config = { responseModalities: ['IMAGE'], imageConfig: { aspectRatio: '1:1' } };
    return async () => {
      const answer = await client.models.generateContent({ model: 'gemini-nano-banana-2.1', contents: prompt, config });
      const part = answer.candidates[0].content.parts.find((part) => part.inlineData);
      return Buffer.from(part.inlineData.data, 'base64');
    };
  },
  async replicate() {
    const { default: Replicate } = await import('replicate');
    const client = new Replicate();
    const input = { prompt, output_format: 'png', seed: 5 };
    return async () => download(String((await client.run('black-forest-labs/flux-schnell', { input }))[0]));
  },
  async 'replicate, polled'() {
    const { default: Replicate } = await import('replicate');
    const client = new Replicate();
    const input = { prompt, output_format: 'png', seed: 5 };
    return async () => {
      const job = await client.predictions.create({ model: 'black-forest-labs/flux-schnell', input });
      return download((await client.wait(job, { interval: 50 })).output[0]);
    };
  },
  async fal() {
    const { fal } = await import('@fal-ai/client');
    const input = { prompt, image_size: 'square_hd', output_format: 'png', seed: 5 };
    return async () => download((await fal.run('fal-ai/flux/dev', { input })).data.images[0].url);
  },
  async 'fal, queued'() {
    const { fal } = await import('@fal-ai/client');
    const input = { prompt, image_size: 'square_hd', output_format: 'png', seed: 5 };
    return async () => {
      const stages = [];
      const onQueueUpdate = ({ status }) => stages.push(status);
      const done = await fal.subscribe('fal-ai/flux/dev', { input, pollInterval: 50, onQueueUpdate });
      if (stages.at(-1) !== 'COMPLETED') throw new Error(`it ended as ${stages}`);
      return download(done.data.images[0].url);
    };
  },
  async fetch() {
    return async () => {
      const answer = await (await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })).json();
      return Buffer.from(answer.data[0].b64_json, 'base64');
    };
  },
  async https() {
    const { request } = await import('node:https');
    return () => new Promise((resolve, reject) => {
      const sent = request(url, { method: 'POST', headers }, (answer) => {
        const pieces = [];
        answer.on('data', (piece) => pieces.push(piece));
        answer.on('end', () => resolve(Buffer.from(JSON.parse(Buffer.concat(pieces)).data[0].b64_json, 'base64')));
      });
      sent.on('error', reject).end(JSON.stringify(body));
    });
  },
};

const ask = await clients[name]();
for (let i = 0; i < Number(times); i++) {
  try {
    const picture = await ask();
    console.log(JSON.stringify({ png: picture.readUInt32BE(0) === 0x89504e47, width: picture.readUInt32BE(16) }));
  } catch (error) {
    console.log(JSON.stringify({ error: error.constructor.name, status: error.status ?? error.response?.status, cause: error.cause && String(error.cause) }));
  }
}
