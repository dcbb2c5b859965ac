// Generate and repeat with the real `openai` package for Node.
import OpenAI from 'openai';

const client = new OpenAI();
for (let i = 0; i < 2; i++) {
  const { data, response } = await client.images
    .generate({ model: 'gpt-image-2', prompt: 'a brass compass', size: '1024x1024', quality: 'low' })
    .withResponse();
  console.log(JSON.stringify({ cache: response.headers.get('cache-status'), images: data.data.length }));
}
