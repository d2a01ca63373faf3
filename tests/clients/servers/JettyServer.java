// Jetty 9. Usage: java -cp JARS JettyServer.java PORT KEEP_ALIVE
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import javax.servlet.http.Cookie;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.handler.AbstractHandler;
import org.eclipse.jetty.server.handler.StatisticsHandler;
import org.eclipse.jetty.server.handler.gzip.GzipHandler;

class JettyServer extends AbstractHandler {
    static final byte[] TEXT =
        IntStream.range(0, 10_000).mapToObj("%06d\n"::formatted).collect(Collectors.joining()).getBytes();

    @Override
    public void handle(String path, Request base, HttpServletRequest request, HttpServletResponse answer)
        throws IOException {
        base.setHandled(true);
        answer.setContentType("text/plain");
        switch (path) {
            case "/text" -> text(request, answer);
            case "/gzip", "/chunked" -> {
                for (int at = 0; at < TEXT.length; at += 7000) {
                    answer.getOutputStream().write(TEXT, at, Math.min(7000, TEXT.length - at));
                    answer.flushBuffer();
                }
            }
            case "/redirect" -> answer.sendRedirect("/text");
            case "/set-cookies" -> {
                answer.addCookie(new Cookie("a", "1"));
                answer.addCookie(new Cookie("b", "2"));
                answer.getOutputStream().print("set");
            }
            case "/cookies" -> {
                String cookies = request.getHeader("Cookie");
                answer.getOutputStream().print(cookies == null ? "" : cookies);
            }
            case "/events" -> {
                answer.setContentType("text/event-stream");
                for (int number = 0; number < 3; number++) {
                    answer.getOutputStream().print("data: " + number + "\n\n");
                    answer.flushBuffer();
                }
            }
            case "/slow" -> {
                Path marks = Path.of(System.getenv("MARKS"));
                Files.writeString(marks.resolve("waiting"), "");
                while (!Files.exists(marks.resolve("release"))) pause();
                answer.getOutputStream().write(TEXT);
            }
            case "/refused" -> {
                if (request.getContentLengthLong() > 1_000_000) answer.sendError(413);
                else echo(request, answer);
            }
            case "/echo" -> echo(request, answer);
            default -> answer.sendError(404);
        }
    }

    static void text(HttpServletRequest request, HttpServletResponse answer) throws IOException {
        answer.setHeader("ETag", "\"1\"");
        answer.setHeader("Cache-Control", "max-age=60");
        answer.setHeader("Accept-Ranges", "bytes");
        String wanted = request.getHeader("Range");
        int first = 0, last = TEXT.length - 1;
        if ("\"1\"".equals(request.getHeader("If-None-Match"))) {
            answer.setStatus(304);
            return;
        }
        if (wanted != null && wanted.startsWith("bytes=")) {
            String[] ends = wanted.substring(6).split("-");
            first = Integer.parseInt(ends[0]);
            last = Integer.parseInt(ends[1]);
            answer.setStatus(206);
            answer.setHeader("Content-Range", "bytes " + first + "-" + last + "/" + TEXT.length);
        }
        answer.setContentLength(last - first + 1);
        answer.getOutputStream().write(TEXT, first, last - first + 1);
    }

    static void echo(HttpServletRequest request, HttpServletResponse answer) throws IOException {
        byte[] content = request.getInputStream().readAllBytes();
        try {
            byte[] hash = MessageDigest.getInstance("SHA-256").digest(content);
            answer.getOutputStream().print(content.length + " " + HexFormat.of().formatHex(hash));
        } catch (java.security.NoSuchAlgorithmException error) {
            throw new IOException(error);
        }
    }

    static void pause() throws IOException {
        try {
            Thread.sleep(20);
        } catch (InterruptedException error) {
            throw new IOException(error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        var server = new Server();
        var connector = new ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(arguments[0]));
        connector.setIdleTimeout(Integer.parseInt(arguments[1]) * 1000L);
        server.addConnector(connector);
        var compressed = new GzipHandler();
        compressed.setIncludedPaths("/gzip");
        compressed.setHandler(new JettyServer());
        // It lets requests in flight end.
        var graceful = new StatisticsHandler();
        graceful.setHandler(compressed);
        server.setHandler(graceful);
        server.setStopTimeout(20_000);
        server.setStopAtShutdown(true);
        server.start();
        server.join();
    }
}
