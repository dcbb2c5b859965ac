<?php
// Asks URL once, by curl or by a stream, and says so before it does. Exit code 42: there is no such client.
[, $url, $client] = $argv;
if ($client === 'curl' && !function_exists('curl_init')) exit(42);
echo 'asking ', PHP_VERSION, "\n";
if ($client === 'curl') curl_exec(curl_init($url));
else file_get_contents($url);
