import java.io.IOException;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.msgpack.core.MessageBufferPacker;
import org.msgpack.core.MessagePack;
import org.msgpack.value.Value;

/**
 * Kill what a filter matches, and follow it: with Kafka's client and msgpack.
 *
 * <pre>
 *   mvn dependency:copy-dependencies
 *   java -cp 'target/dependency/*' Kill.java Greeter suspended
 * </pre>
 *
 * What is written and read here is specified in schemas/. KAFKA_BOOTSTRAP names the brokers, 127.0.0.1:9092 if it is not
 * set; TOPIC_PREFIX is what the names of the topics begin with. Prints a line for each change.
 */
public final class Kill {
  private static final int SUBMIT = 32;
  private static final int PROGRESS = 48;
  private static final int REQUEST_STATE = 49;
  private static final Set<String> OVER = Set.of("completed", "completed-with-failures", "aborted", "refused");

  private final String request;
  private String state = "accepted";
  private long number = 0;
  private final Map<Long, Map<String, Value>> partitions = new HashMap<>();

  private Kill(String request) {
    this.request = request;
  }

  public static void main(String[] arguments) throws Exception {
    String bootstrap = System.getenv().getOrDefault("KAFKA_BOOTSTRAP", "127.0.0.1:9092");
    String prefix = System.getenv().getOrDefault("TOPIC_PREFIX", "coordinator.");
    Kill kill = new Kill("kill-" + UUID.randomUUID());
    TopicPartition progress = new TopicPartition(prefix + "progress", 0);
    Map<String, Object> brokers = Map.of("bootstrap.servers", bootstrap);
    try (KafkaConsumer<String, byte[]> consumer =
            new KafkaConsumer<>(brokers, new StringDeserializer(), new ByteArrayDeserializer());
        KafkaProducer<String, byte[]> producer =
            new KafkaProducer<>(brokers, new StringSerializer(), new ByteArraySerializer())) {
      // From the end on, and the end is fixed before anything is asked for: so nothing of the answer is missed.
      consumer.assign(List.of(progress));
      consumer.seek(progress, consumer.endOffsets(List.of(progress)).get(progress));
      byte[] submit = kill.submit(arguments[0], arguments[1]);
      producer.send(new ProducerRecord<>(prefix + "requests", kill.request, submit)).get();
      while (!OVER.contains(kill.state)) {
        for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
          if (kill.fold(record.value())) {
            System.out.println(kill.state + " " + kill.counts());
          }
        }
      }
    }
    System.exit(kill.state.equals("completed") ? 0 : 1);
  }

  private byte[] submit(String service, String status) throws IOException {
    try (MessageBufferPacker packer = MessagePack.newDefaultBufferPacker()) {
      packer.packMapHeader(6);
      packer.packString("kind").packInt(SUBMIT);
      packer.packString("v").packInt(1);
      packer.packString("request").packString(request);
      packer.packString("action").packString("kill");
      packer.packString("filter").packMapHeader(2);
      packer.packString("service").packString(service);
      packer.packString("status").packArrayHeader(1).packString(status);
      packer.packString("reason").packString("an example in Java");
      return packer.toByteArray();
    }
  }

  /**
   * Whether the record says something new. Records are cumulative and may come more than once and in any order: what has
   * the highest number holds.
   */
  private boolean fold(byte[] value) throws IOException {
    Map<String, Value> message = fields(MessagePack.newDefaultUnpacker(value).unpackValue());
    int kind = message.get("kind").asIntegerValue().asInt();
    if (kind != PROGRESS && kind != REQUEST_STATE) {
      return false;
    }
    if (!message.get("request").asStringValue().asString().equals(request)) {
      return false;
    }
    long told = message.get("number").asIntegerValue().asLong();
    if (kind == REQUEST_STATE) {
      if (told <= number) {
        return false;
      }
      number = told;
      state = message.get("state").asStringValue().asString();
      return true;
    }
    long partition = message.get("partition").asIntegerValue().asLong();
    Map<String, Value> known = partitions.get(partition);
    if (known != null && told <= known.get("number").asIntegerValue().asLong()) {
      return false;
    }
    partitions.put(partition, message);
    return true;
  }

  private Map<String, Long> counts() {
    Map<String, Long> counts = new TreeMap<>();
    for (Map<String, Value> told : partitions.values()) {
      fields(told.get("tally")).forEach((name, count) -> counts.merge(name, count.asIntegerValue().asLong(), Long::sum));
    }
    return counts;
  }

  private static Map<String, Value> fields(Value map) {
    Map<String, Value> fields = new HashMap<>();
    map.asMapValue().map().forEach((name, value) -> fields.put(name.asStringValue().asString(), value));
    return fields;
  }
}
