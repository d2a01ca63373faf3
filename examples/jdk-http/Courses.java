// Courses in memory. Responses name their tags, and each change is purged once it is made.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.stream.Collectors;

public class Courses {
    static final String ADMIN = System.getenv().getOrDefault("LARDER_ADMIN_URL", "http://127.0.0.1:9090");
    static final HttpClient CLIENT = HttpClient.newHttpClient();
    static final Map<String, String> COURSES = new ConcurrentSkipListMap<>(Map.of("7", "{\"id\": 7, \"title\": \"Knots\"}"));

    static void purge(String... tags) throws IOException, InterruptedException {
        var quoted = Arrays.stream(tags).map(tag -> '"' + tag + '"').collect(Collectors.joining(", "));
        var content = HttpRequest.BodyPublishers.ofString("{\"tags\": [" + quoted + "]}");
        var request = HttpRequest.newBuilder(URI.create(ADMIN + "/purge")).timeout(Duration.ofSeconds(5)).POST(content).build();
        var answer = CLIENT.send(request, BodyHandlers.ofString());
        if (answer.statusCode() != 200) throw new IOException("the purge failed: " + answer.body());
    }

    static void write(HttpExchange exchange, int status, String content, String tags) throws IOException {
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.getResponseHeaders().set("Surrogate-Key", tags);
        exchange.sendResponseHeaders(status, content.getBytes().length);
        try (var body = exchange.getResponseBody()) {
            body.write(content.getBytes());
        }
    }

    static void list(HttpExchange exchange) throws IOException {
        var tags = COURSES.keySet().stream().map(id -> " course:" + id).collect(Collectors.joining());
        write(exchange, 200, COURSES.values().toString(), "courses" + tags);
    }

    static void one(HttpExchange exchange, String id) throws IOException, InterruptedException {
        if (exchange.getRequestMethod().equals("PATCH")) {
            var title = new String(exchange.getRequestBody().readAllBytes()).replaceAll(".*\"title\": *(\"[^\"]*\").*", "$1");
            COURSES.put(id, "{\"id\": " + id + ", \"title\": " + title + "}");
            purge("courses", "course:" + id);
        }
        var found = COURSES.get(id);
        write(exchange, found == null ? 404 : 200, found == null ? "null" : found, "course:" + id);
    }

    static void handle(HttpExchange exchange) throws IOException {
        var path = exchange.getRequestURI().getPath();
        try {
            if (path.equals("/courses")) list(exchange);
            else one(exchange, path.substring("/courses/".length()));
        } catch (InterruptedException interrupted) {
            throw new IOException(interrupted);
        }
    }

    public static void main(String[] arguments) throws IOException {
        var port = Integer.parseInt(System.getenv().getOrDefault("PORT", "3000"));
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/courses", Courses::handle);
        server.start();
    }
}
