// Java's HttpClient. Usage: java Client.java URL [slow]
import java.io.ByteArrayInputStream;
import java.net.CookieManager;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.MessageDigest;
import java.util.HexFormat;

class Client {
    static String url;
    static final HttpClient CLIENT = HttpClient.newBuilder()
        .followRedirects(HttpClient.Redirect.NORMAL).cookieHandler(new CookieManager()).build();

    static void say(String name, Object status, byte[] body, String more) throws Exception {
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(body);
        System.out.println(name + "\t" + status + "\t" + HexFormat.of().formatHex(hash, 0, 4) + "\t" + more);
    }

    static HttpResponse<byte[]> ask(String method, String path, HttpRequest.BodyPublisher body, String... fields)
        throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url + path)).method(method, body);
        if (fields.length > 0) request.headers(fields);
        if (path.equals("/echo")) request.expectContinue(true);
        return CLIENT.send(request.build(), BodyHandlers.ofByteArray());
    }

    static HttpResponse<byte[]> check(String name, String method, String path, HttpRequest.BodyPublisher body,
        String... fields) throws Exception {
        try {
            var answer = ask(method, path, body, fields);
            say(name, answer.statusCode(), answer.body(), answer.headers().firstValue("content-range").orElse(""));
            return answer;
        } catch (java.io.IOException error) {
            say(name, error.getClass().getSimpleName(), new byte[0], "");
            return null;
        }
    }

    static void checkHeld(String name, String method) throws Exception {
        var none = BodyPublishers.noBody();
        String first = new String(ask("GET", "/count", none).body());
        String second = new String(ask("GET", "/count", none).body());
        ask(method, "/count", none);
        String third = new String(ask("GET", "/count", none).body());
        System.out.println(name + "\t" + (first.equals(second) ? "held" : "fetched")
            + (second.equals(third) ? " stale" : " fresh"));
    }

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        if (arguments.length > 1) {
            check("shutdown", "GET", "/slow", BodyPublishers.noBody());
            return;
        }
        byte[] upload = "0123456789".repeat(20_000).getBytes();
        var none = BodyPublishers.noBody();
        ask("GET", "/text", none);
        var answer = check("get", "GET", "/text", none);
        boolean hit = answer.headers().firstValue("cache-status").orElse("").contains("hit");
        System.out.println("cached\t" + (hit ? "True" : "False"));
        check("304", "GET", "/text", none, "If-None-Match", "\"1\"");
        check("range", "GET", "/text", none, "Range", "bytes=700-1399");
        check("head", "HEAD", "/text", none);
        for (String name : new String[] {"gzip", "chunked", "redirect"}) check(name, "GET", "/" + name, none);
        // A client with cookies is a caller of its own.
        checkHeld("purge", "PURGE");
        checkHeld("update", "POST");
        ask("GET", "/set-cookies", none);
        check("cookies", "GET", "/cookies", none);
        check("upload", "POST", "/echo", BodyPublishers.ofByteArray(upload));
        check("stream", "POST", "/echo", BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(upload)));
        check("continue", "POST", "/echo", BodyPublishers.ofByteArray("0".repeat(5_000_000).getBytes()));
        check("events", "GET", "/events", none);
        check("early", "POST", "/refused", BodyPublishers.ofByteArray(new byte[8_000_000]));
    }
}
