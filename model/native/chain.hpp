// A task's subnet in one call: 3x3 convolutions one after the other, mean over the pixels, its head.
//
// Such a network is small: called layer by layer, it spends more on calls, on memory order and on
// waking threads than on arithmetic. Here activations stay in scratch memory, in the order that the
// convolutions read. Each output is summed over the same inputs in the same order whatever the other
// images, tasks or threads are: no neighbour changes a bit. Everything is float32.
//
// Compiled once per instruction set (avx512.cpp, avx2.cpp); model/native/library.py calls it.

#pragma once

#include "direct.hpp"
#include "team.hpp"
#include "winograd.hpp"

namespace {

Team team;

// Floats of the largest activation of the images that are run together.
constexpr int64_t kChunk = 1 << 19;

// The structures as model/native/library.py writes them.

// How a convolution is computed: directly; by Winograd's algorithm from packed weights, or from
// transformed ones.
enum Algorithm : int32_t { kDirect = 0, kTransform = 1, kTransformed = 2 };

struct Layer {
  const float* weight;  // packed, or transformed
  const float* bias;    // [blocks * V]
  int32_t inputs, outputs;
  int32_t pool;  // 0 or 1
  Algorithm algorithm;
};

struct Head {
  const float* embed;  // [features][blocks of embedding * V]; null: logits straight from features
  const float* embed_bias;
  const float* weight;  // [embedding or features][blocks of outputs * V]
  const float* bias;
  int64_t embedding, outputs;
};

// One chain on some images: x if it is given, else pixels.
struct Job {
  const Layer* layers;
  const float* x;         // [.][height][width][total]
  const uint8_t* pixels;  // [.][height][width][total]
  const float* levels;    // [total][256]: the value of a pixel
  const int32_t* images;  // `number` positions in x
  const int64_t* select;  // channels that the first layer reads, or null for all
  const Head* head;       // null: no logits
  float* out;             // [number][stride] logits, or [number][H'][W'][outputs] without a head
  int64_t count;          // of layers
  int64_t number, total, height, width;
  int64_t stride;         // floats between two images' logits
};

inline int pixel_of(int channels) { return channels <= kNarrow ? kNarrow : V; }

// Some channels of an input into the first bordered activation, in units of a row.
struct Packing {
  const Job& job;
  const int32_t* images;
  Activation to;

  void operator()(int64_t unit) const {
    const int64_t image = unit / job.height, y = unit % job.height;
    const int64_t start = ((images[image] * job.height) + y) * job.width * job.total;
    const int step = static_cast<int>(to.pixel);
    for (int first = 0; first < to.channels; first += step) {
      const int count = std::min(step, to.channels - first);
      float* out = to.at(image, first / step, y, 0);
      for (int64_t x = 0; x < job.width; ++x, out += step) {
        const int64_t pixel = start + x * job.total;
        for (int c = 0; c < count; ++c) out[c] = value(pixel, first + c);
        for (int c = count; c < step; ++c) out[c] = 0.0f;
      }
    }
  }

  float value(int64_t pixel, int channel) const {
    const int64_t from = job.select == nullptr ? channel : job.select[channel];
    return job.x != nullptr ? job.x[pixel + from]
                            : job.levels[from * 256 + job.pixels[pixel + from]];
  }
};

// The zeros around every block of an activation, in units of a block.
struct Border {
  Activation to;
  int64_t blocks;

  void operator()(int64_t unit) const {
    float* base = to.data + unit / blocks * to.image + unit % blocks * to.block;
    const size_t row = to.row * sizeof(float), pixel = to.pixel * sizeof(float);
    std::memset(base, 0, row);
    std::memset(base + (to.height + 1) * to.row, 0, row);
    for (int y = 1; y <= to.height; ++y) {
      std::memset(base + y * to.row, 0, pixel);
      std::memset(base + (y + 1) * to.row - to.pixel, 0, pixel);
    }
  }
};

inline void clear_border(const Activation& to, int64_t images) {
  const int64_t blocks = (to.channels + to.pixel - 1) / to.pixel;
  const Border border{to, blocks};
  for (int64_t unit = 0; unit < images * blocks; ++unit) border(unit);
}

// Means over the pixels of one image: [channels], rounded up to whole blocks.
inline void mean(const Activation& from, int64_t image, float* out) {
  for (int64_t block = 0; block < blocks_of(from.channels); ++block) {
    Vector sum = {};
    for (int y = 0; y < from.height; ++y)
      for (int x = 0; x < from.width; ++x) sum += load(from.at(image, block, y, x));
    store(out + block * V, sum / static_cast<float>(from.height * from.width));
  }
}

// out = weight x + bias, in blocks; x is read one by one.
inline void linear(const float* x, int64_t inputs, const float* weight, const float* bias,
                   int64_t outputs, float* out) {
  const int64_t width = blocks_of(outputs) * V;
  std::memcpy(out, bias, width * sizeof(float));
  for (int64_t i = 0; i < inputs; ++i, weight += width)
    for (int64_t o = 0; o < width; o += V) store(out + o, load(out + o) + load(weight + o) * x[i]);
}

inline void logits(const Head& head, const float* features, int64_t count, float* out) {
  static thread_local Scratch scratch;
  const int64_t embedding = blocks_of(head.embedding) * V, outputs = blocks_of(head.outputs) * V;
  float* embedded = scratch.get(embedding + outputs);
  float* result = embedded + embedding;
  if (head.embed != nullptr) {
    linear(features, count, head.embed, head.embed_bias, head.embedding, embedded);
    for (int64_t i = 0; i < embedding; i += V) store(embedded + i, relu(load(embedded + i)));
    linear(embedded, head.embedding, head.weight, head.bias, head.outputs, result);
  } else {
    linear(features, count, head.weight, head.bias, head.outputs, result);
  }
  std::memcpy(out, result, head.outputs * sizeof(float));
}

// `next`: the layer that follows, null for the last one.
inline void convolve(Team::Session& threads, const Layer& layer, const Layer* next,
                     const Activation& from, const Activation& to, int64_t images) {
  if (to.bordered) clear_border(to, images);
  if (layer.algorithm == kDirect) {
    const float* after = next == nullptr ? nullptr : next->weight;
    const DirectConv work(layer.weight, layer.bias, after, layer.pool != 0, from, to, images);
    threads.run(work.units(), work);
    return;
  }
  static thread_local Scratch inputs, weights;
  const WinogradConv work(layer.weight, layer.bias, layer.pool != 0, from, to, images,
                          inputs.get(WinogradConv::input_floats(from, images)));
  threads.run(work.input_units(), [&](int64_t unit) { work.transform_input(unit); });
  const float* ready = layer.weight;
  const int64_t each = work.weight_units(), runs = work.output_units();
  if (layer.algorithm == kTransform) {
    float* all = weights.get(WinogradConv::weight_floats(from, to));
    if (threads.threads() == 1) {  // one group after the other in the same place, in the cache
      for (int64_t group = 0; group < work.groups(); ++group) {
        for (int64_t input = 0; input < each; ++input) work.transform_weight(group, input, all);
        for (int64_t run = 0; run < runs; ++run) work.multiply(group, run, all);
      }
      return;
    }
    threads.run(work.groups() * each, [&](int64_t unit) {
      const int64_t group = unit / each;
      work.transform_weight(group, unit % each, all + kPoints * work.weights_at(group));
    });
    ready = all;
  }
  threads.run(work.groups() * runs, [&](int64_t unit) {
    const int64_t group = unit / runs;
    work.multiply(group, unit % runs, ready + kPoints * work.weights_at(group));
  });
}

inline void run_chunk(Team::Session& threads, const Job& job, int64_t start, int64_t number,
                      float* one, float* two) {
  const int inputs = job.layers[0].inputs;
  Activation from = bordered(one, inputs, static_cast<int>(job.height),
                             static_cast<int>(job.width), pixel_of(inputs));
  clear_border(from, number);
  threads.run(number * job.height, Packing{job, job.images + start, from});
  for (int64_t i = 0; i < job.count; ++i) {
    const Layer& layer = job.layers[i];
    const int shrink = layer.pool != 0 ? 2 : 1;
    const int height = from.height / shrink, width = from.width / shrink;
    Activation to = bordered(two, layer.outputs, height, width, V);
    if (i == job.count - 1 && job.head == nullptr) {
      to = plain(job.out, layer.outputs, height, width);
      to.data += start * to.image;
    }
    convolve(threads, layer, i < job.count - 1 ? &layer + 1 : nullptr, from, to, number);
    std::swap(one, two);
    from = to;
  }
  if (job.head == nullptr) return;
  static thread_local Scratch scratch;
  float* features = scratch.get(blocks_of(from.channels) * V);
  for (int64_t image = 0; image < number; ++image) {
    mean(from, image, features);
    logits(*job.head, features, from.channels, job.out + (start + image) * job.stride);
  }
}

// The largest activation of one image that is kept between layers.
inline int64_t largest(const Job& job) {
  int height = static_cast<int>(job.height), width = static_cast<int>(job.width);
  const int inputs = job.layers[0].inputs;
  int64_t most = bordered(nullptr, inputs, height, width, pixel_of(inputs)).image;
  for (int64_t i = 0; i < job.count; ++i) {
    if (job.layers[i].pool != 0) height /= 2, width /= 2;
    most = std::max(most, bordered(nullptr, job.layers[i].outputs, height, width, V).image);
  }
  return most;
}

inline void run_job(const Job& job, Team::Session& threads) {
  static thread_local Scratch first, second;
  const int64_t most = largest(job), chunk = std::clamp<int64_t>(kChunk / most, 1, job.number);
  float* one = first.get(chunk * most);
  float* two = second.get(chunk * most);
  for (int64_t start = 0; start < job.number; start += chunk)
    run_chunk(threads, job, start, std::min(chunk, job.number - start), one, two);
}

}  // namespace

extern "C" {

// Of what follows and of the structures above: model/native/library.py has the same number.
int32_t interface_version() { return 2; }

int32_t vector_floats() { return V; }

// [outputs][inputs][tap] -> by group of output blocks [input block][tap][input][output].
void pack(const float* weight, int64_t inputs, int64_t outputs, float* packed) {
  const Groups groups(blocks_of(outputs));
  for (int64_t group = 0; group < groups.count; ++group) {
    const int64_t start = groups.start(group) * V, end = start + groups.size(group) * V;
    for (int64_t first = 0; first < inputs; first += V)
      for (int64_t tap = 0; tap < 9; ++tap)
        for (int64_t input = first; input < std::min<int64_t>(inputs, first + V); ++input)
          for (int64_t o = start; o < end; ++o)
            *packed++ = o < outputs ? weight[(o * inputs + input) * 9 + tap] : 0.0f;
  }
}

// What pack() wrote -> by group of output blocks [point][input][output], for Winograd's algorithm.
void transform(const float* packed, int64_t inputs, int64_t outputs, float* transformed) {
  const Groups groups(blocks_of(outputs));
  for (int64_t group = 0; group < groups.count; ++group) {
    const int64_t start = groups.start(group) * V * inputs, size = groups.size(group) * V;
    for (int64_t input = 0; input < inputs; ++input)
      transform_kernels(packed + 9 * start, inputs, input, size, transformed + kPoints * start);
  }
}

// All jobs: one to a thread where there are enough of them, else one after the other with the threads
// inside. Returns 0, or 1 if there was no memory for the activations.
int32_t run(const Job* jobs, int64_t count, int32_t threads) {
  try {
    Team::Session all(team, threads);
    if (count < all.threads()) {
      for (int64_t job = 0; job < count; ++job) run_job(jobs[job], all);
    } else {
      all.run(count, [&](int64_t job) {
        Team::Session alone(team, 1);
        run_job(jobs[job], alone);
      });
    }
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

}  // extern "C"
