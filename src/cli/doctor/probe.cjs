// Asks URL once, by `fetch` or by `https`, and says so before it does. Exit code 42: there is no such client.
const [url, client] = process.argv.slice(2);
if (client === 'fetch' && typeof fetch === 'undefined') process.exit(42);
console.log('asking', process.version.slice(1));
if (client === 'fetch') fetch(url).catch(() => process.exit(1));
else require('https').get(url, (answer) => answer.resume()).on('error', () => process.exit(1));
