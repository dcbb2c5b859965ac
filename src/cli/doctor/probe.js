// Asks URL once with the `fetch` of Deno or Bun, and says so before it does.
const url = globalThis.Deno ? Deno.args[0] : process.argv[2];
console.log('asking', globalThis.Deno ? Deno.version.deno : Bun.version);
await fetch(url);
