// Apache HttpClient 5. Usage: java -cp JARS ApacheClient.java URL [slow]
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.URI;
import java.security.MessageDigest;
import java.util.HexFormat;
import org.apache.hc.client5.http.classic.methods.HttpUriRequestBase;
import org.apache.hc.client5.http.config.RequestConfig;
import org.apache.hc.client5.http.impl.classic.CloseableHttpClient;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.HttpEntity;
import org.apache.hc.core5.http.io.entity.ByteArrayEntity;
import org.apache.hc.core5.http.io.entity.EntityUtils;
import org.apache.hc.core5.http.io.entity.InputStreamEntity;

class ApacheClient {
    record Answer(int status, byte[] body, String range, boolean hit) {}

    static String url;
    static final CloseableHttpClient CLIENT = HttpClients.createDefault();

    static void say(String name, Object status, byte[] body, String more) throws Exception {
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(body);
        System.out.println(name + "\t" + status + "\t" + HexFormat.of().formatHex(hash, 0, 4) + "\t" + more);
    }

    static Answer ask(String method, String path, HttpEntity content, String... field) throws IOException {
        var request = new HttpUriRequestBase(method, URI.create(url + path));
        request.setConfig(RequestConfig.custom().setExpectContinueEnabled(path.equals("/echo")).build());
        if (content != null) request.setEntity(content);
        if (field.length > 0) request.setHeader(field[0], field[1]);
        return CLIENT.execute(request, answer -> {
            var entity = answer.getEntity();
            byte[] body = entity == null ? new byte[0] : EntityUtils.toByteArray(entity);
            var range = answer.getFirstHeader("content-range");
            var said = answer.getFirstHeader("cache-status");
            boolean hit = said != null && said.getValue().contains("hit");
            return new Answer(answer.getCode(), body, range == null ? "" : range.getValue(), hit);
        });
    }

    static Answer check(String name, String method, String path, HttpEntity content, String... field) throws Exception {
        try {
            var answer = ask(method, path, content, field);
            say(name, answer.status, answer.body, answer.range);
            return answer;
        } catch (IOException error) {
            say(name, error.getClass().getSimpleName(), new byte[0], "");
            return null;
        }
    }

    static void checkHeld(String name, String method) throws Exception {
        String first = new String(ask("GET", "/count", null).body);
        String second = new String(ask("GET", "/count", null).body);
        ask(method, "/count", null);
        String third = new String(ask("GET", "/count", null).body);
        System.out.println(name + "\t" + (first.equals(second) ? "held" : "fetched")
            + (second.equals(third) ? " stale" : " fresh"));
    }

    static HttpEntity bytes(int length) {
        return new ByteArrayEntity("0".repeat(length).getBytes(), ContentType.TEXT_PLAIN);
    }

    public static void main(String[] arguments) throws Exception {
        url = arguments[0];
        if (arguments.length > 1) {
            check("shutdown", "GET", "/slow", null);
            return;
        }
        ask("GET", "/text", null);
        var answer = check("get", "GET", "/text", null);
        System.out.println("cached\t" + (answer.hit ? "True" : "False"));
        check("304", "GET", "/text", null, "If-None-Match", "\"1\"");
        check("range", "GET", "/text", null, "Range", "bytes=700-1399");
        check("head", "HEAD", "/text", null);
        for (String name : new String[] {"gzip", "chunked", "redirect"}) check(name, "GET", "/" + name, null);
        // A client with cookies is a caller of its own.
        checkHeld("purge", "PURGE");
        checkHeld("update", "POST");
        ask("GET", "/set-cookies", null);
        check("cookies", "GET", "/cookies", null);
        check("upload", "POST", "/echo", bytes(200_000));
        var stream = new ByteArrayInputStream("0123456789".repeat(20_000).getBytes());
        check("stream", "POST", "/echo", new InputStreamEntity(stream, ContentType.TEXT_PLAIN));
        check("continue", "POST", "/echo", bytes(5_000_000));
        check("events", "GET", "/events", null);
        check("early", "POST", "/refused", bytes(8_000_000));
    }
}
